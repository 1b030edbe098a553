"""Whether a generated answer is right. Text in, yes or no out."""

import re
from collections.abc import Callable
from decimal import Decimal

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.sources import Example

UNREADABLE = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)
"""What verifiers raise on text that they cannot parse."""

# A minus sign belongs to the number unless it follows a digit: "10-3" ends in 3.
_NUMBER = re.compile(r"(?:(?<!\d)-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def exact_match(answer: str, example: Example) -> bool:
    """Whether the answer is the target, up to white space."""
    return answer.split() == example.target.split()


def final_number(answer: str, example: Example) -> bool:
    """Whether the last number of the answer equals the last number of the target, as for GSM8K's "… #### 72"."""
    return last_number(answer) is not None and last_number(answer) == last_number(example.target)


def verifier(answer: str, example: Example) -> bool:
    """Whether the source's own verifier gives full marks; part marks count as wrong, and so does an answer that it
    cannot read: some raise on text that is not of the form that they ask for."""
    if example.verifier is None:
        return False
    try:
        return example.verifier(answer) == 1
    except UNREADABLE:
        return False


def last_number(text: str) -> Decimal | None:
    """The last number in a text, thousands separators removed, compared by value: "1,200.0" is 1200."""
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None


SCORERS: dict[str, Callable[[str, Example], bool]] = {
    "exact_match": exact_match,
    "final_number": final_number,
    "verifier": verifier,
}


def check_scorable(metric: str, split: str, examples: tuple[Example, ...]) -> None:
    """Raises DataError when no answer to one of the examples could ever count as right."""
    for example in examples:
        if metric == "verifier" and example.verifier is None:
            raise DataError(f"metric 'verifier' needs a source with a verifier (reasoning_gym), which {split} has not")
        if metric == "verifier":
            _check_verifier(example, split)
        if metric == "final_number" and last_number(example.target) is None:
            raise DataError(f"metric 'final_number': a target of {split} has no number: {example.target!r}")


def _check_verifier(example: Example, split: str) -> None:
    """It must be able to judge the target."""
    assert example.verifier is not None
    try:
        example.verifier(example.target)
    except Exception as error:
        raise DataError(f"the verifier of {split} raises on the target {example.target!r}: {error!r}") from error
