"""How right an answer is. Text in, a score from 0 to 1 out: yes or no, or a part."""

from collections.abc import Callable, Sequence

from prunedlora.metric_kinds import own_metric
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.final_answer import final_answer
from prunedlora.tasks.metrics import word_overlap
from prunedlora.tasks.metrics.own_score import OwnScore

VERIFIER_ERRORS = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)
"""What verifiers raise on text that they cannot parse."""


def exact_match(answer: str, example: Example) -> bool:
    """Whether the answer is the target, up to white space."""
    return answer.split() == example.target.split()


def final_number(answer: str, example: Example) -> bool:
    """Whether both end in the same final answer (final_answer.py): numbers by their value, the rest as text."""
    given = final_answer(answer)
    return given != "" and given == final_answer(example.target)


def verifier(answer: str, example: Example) -> bool:
    """Whether the source's own verifier gives full marks; part marks count as wrong, and so does an answer that it
    cannot read: some raise on text that is not of the form that they ask for. It judges the answer without the white
    space around it: a target may begin with a space, which is part of its first token."""
    if example.verifier is None:
        return False
    try:
        return example.verifier(answer.strip()) == 1
    except VERIFIER_ERRORS:
        return False


def rouge_l(answer: str, example: Example) -> float:
    """How much of the target the answer says in the same order (metrics/word_overlap.py)."""
    return word_overlap.rouge_l(answer, example.target)


def token_f1(answer: str, example: Example) -> float:
    """How many of the target's words the answer has, in any order (metrics/word_overlap.py)."""
    return word_overlap.token_f1(answer, example.target)


Scorer = Callable[[str, Example], float]
SCORERS: dict[str, Scorer] = {
    "exact_match": exact_match,
    "final_number": final_number,
    "verifier": verifier,
    "rouge_l": rouge_l,
    "token_f1": token_f1,
}


def scorer_of(metric: str) -> Scorer | None:
    """What scores an answer by this metric; None for one that is not made of answers one by one (loss, or figures of
    all predictions together). Raises OwnScoreError for a function of one's own that cannot be had."""
    return SCORERS.get(metric) if own_metric(metric) is None else OwnScore(metric)


def cut_at(answer: str, stop: Sequence[str]) -> str:
    """The answer up to the first of the stop texts in it, or all of it."""
    return answer[: min((answer.find(text) for text in stop if text in answer), default=len(answer))]


def check_scorable(
    metric: str,
    split: str,
    examples: tuple[Example, ...],
    stop: Sequence[str] = (),
    scorer: Scorer | None = None,
) -> None:
    """Raises DataError when no answer to one of the examples could ever count as right, or when its target, cut at a
    stop text, would count for less. `scorer`: of the metric, where it is loaded already. Raises OwnScoreError for a
    function of one's own that cannot score right answers."""
    scorer = scorer or scorer_of(metric)
    if isinstance(scorer, OwnScore):
        scorer.check(split, examples)
    for example in examples:
        if metric == "verifier" and example.verifier is None:
            raise DataError(f"metric 'verifier' needs a source with a verifier (reasoning_gym), which {split} has not")
        if metric == "verifier":
            _check_verifier(example, split)
        if metric == "final_number" and final_answer(example.target) == "":
            raise DataError(f"metric 'final_number': a target of {split} has no final answer: {example.target!r}")
        kept = cut_at(example.target, stop)
        if kept == example.target or scorer is None:
            continue
        whole = scorer(example.target, example) if isinstance(scorer, OwnScore) else 1.0
        if scorer(kept, example) < whole:
            raise DataError(
                f"evaluation.stop {list(stop)}: a target of {split} has one of them inside, so that its right answer "
                f"would be cut to {kept!r}: {example.target!r}"
            )


def _check_verifier(example: Example, split: str) -> None:
    """It must be able to judge the target."""
    assert example.verifier is not None
    try:
        example.verifier(example.target.strip())
    except Exception as error:
        raise DataError(f"the verifier of {split} raises on the target {example.target!r}: {error!r}") from error
