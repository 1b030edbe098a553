"""What evaluating takes beside training, before anything starts: lines for the dry run, and a warning where generated
answers may outweigh the training. (How long the documents of harness tasks are is not known before they are run.)"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prunedlora.config.trial import TrialConfig
from prunedlora.trial.assemble import build_course, build_method
from prunedlora.trial.cut_sizes import planned_cuts
from prunedlora.trial.worth import is_judged


@dataclass(frozen=True)
class DataFacts:
    """Of the splits of a configuration."""

    num_validation: int
    train_tokens: float
    """Of a training example, on average, its answer included."""


@dataclass(frozen=True)
class EvaluationCost:
    """Of one training, at most."""

    has_ladder: bool
    num_trained: int
    """Candidates that are as they were trained: rungs, trunk included, or milestones and the end."""
    num_cuts: int
    num_examples: int
    """Validation examples that a candidate is evaluated on."""
    least_of_cut: int
    """Validation examples that pass for a cut that something clearly beats on those that are screened."""
    most_of_cut: int
    """For another one: those that are screened and then all; all alone where screening has all that is needed, or there
    is none."""
    calibrating: int
    """Training examples that pass forward and backward for the metric of whitened cuts, in whole batches."""
    max_new_tokens: int | None
    """Of an answer; None: none are generated."""
    is_at_most: bool
    """Whether answers are generated for some candidates only, as their loss tells."""
    num_documents: int
    """Of lm-evaluation-harness, of all its tasks, for each candidate that it measures."""
    num_by_harness: int
    """Candidates that it measures."""
    examples_trained: int
    tokens_trained: float

    @property
    def num_answered(self) -> int:
        """Candidates for which answers are generated, at most."""
        return 0 if self.max_new_tokens is None else self.num_trained + self.num_cuts

    @property
    def tokens_generated(self) -> int:
        """At most: answers × their longest."""
        return self.num_answered * self.num_examples * (self.max_new_tokens or 0)

    @property
    def outweighs(self) -> float:
        """Tokens generated, at most, for each one trained; 0 where nothing is trained, of which to evaluate is all that
        is asked. A token that is generated takes a pass of its own, in small batches; one that is trained some three
        shares of a large pass: this errs on the side of the training."""
        return self.tokens_generated / self.tokens_trained if self.tokens_trained else 0.0


def cost_of(trial: TrialConfig, num_steps: int, facts: DataFacts, num_documents: int = 0) -> EvaluationCost:
    """What evaluating a training of `num_steps` takes. `num_documents`: of all harness tasks together."""
    course = build_course(trial, build_method(trial, num_steps), num_steps)
    num_trained = len(course.candidates)
    num_examples = trial.evaluation.max_examples or facts.num_validation
    cuts = planned_cuts(trial)
    num_cuts, batch_size = cuts.num_places * cuts.most_per_place, trial.training.batch_size
    screened = min(num_examples, cuts.screen_examples or num_examples)
    loss_comes_first = trial.generate is None or is_judged(trial, is_end=True, is_cut=True)
    is_once = cuts.screen_examples is None or (screened == num_examples and loss_comes_first)
    examples_trained = num_steps * batch_size
    num_by_harness = (
        num_trained + num_cuts if trial.evaluation.chosen_by_harness else 1 + (0 if trial.svd is None else num_cuts)
    )
    return EvaluationCost(
        has_ladder=course.ladder is not None,
        num_trained=num_trained,
        num_cuts=num_cuts,
        num_examples=num_examples,
        least_of_cut=screened,
        most_of_cut=num_examples if is_once else screened + num_examples,
        calibrating=cuts.num_places * math.ceil((cuts.calibration_examples or 0) / batch_size) * batch_size,
        max_new_tokens=None if trial.generate is None else trial.evaluation.max_new_tokens,
        is_at_most=is_judged(trial, is_end=num_trained == 1, is_cut=num_cuts > 0),
        num_documents=num_documents,
        num_by_harness=num_by_harness if num_documents else 0,
        examples_trained=examples_trained,
        tokens_trained=examples_trained * facts.train_tokens,
    )


def most_candidates(trial: TrialConfig, num_steps: int) -> int:
    """How many candidates a training of `num_steps` comes to at most, cuts among them."""
    course, cuts = build_course(trial, build_method(trial, num_steps), num_steps), planned_cuts(trial)
    return len(course.candidates) + cuts.num_places * cuts.most_per_place


def evaluation_lines(costs: Mapping[str, Sequence[EvaluationCost]]) -> tuple[str, ...]:
    """A line for each different kind of training. `costs`: by what they are of, "" for the search, whose corners may
    differ: their ranges are told."""
    names: dict[str, list[str]] = {}
    for name, some in costs.items():
        names.setdefault(_words(some), []).append(name)
    return tuple(
        f"Evaluation{'' if '' in of else ' of ' + ', '.join(of)}: {words}"  # of the search, it holds for all like it
        for words, of in names.items()
    )


def generation_warning(costs: Iterable[EvaluationCost]) -> str | None:
    """Where the most tokens that are generated are more than those trained; of the training where it is worst."""
    worst = max(costs, key=lambda cost: cost.outweighs, default=None)
    if worst is None or worst.outweighs <= 1 or worst.max_new_tokens is None:
        return None
    ways = ["evaluation.max_examples or max_new_tokens lower"]
    if worst.num_answered > 1:
        ways.append("fewer cuts, rungs or milestones")
        if not worst.is_at_most:
            ways.append("evaluation.generate to may_matter")
    mean = worst.tokens_trained / worst.examples_trained
    return (
        f"answers may outweigh the training: {'at most ' if worst.is_at_most else 'up to '}"
        f"{worst.tokens_generated:,} tokens are generated ({worst.num_answered} × {worst.num_examples:,} answers of up "
        f"to {worst.max_new_tokens}) beside {worst.tokens_trained:,.0f} that are trained ({worst.examples_trained:,} "
        f"examples of {mean:.0f}); set {', or '.join(ways)}"
    )


def _words(costs: Sequence[EvaluationCost]) -> str:
    examples = _range(cost.num_examples for cost in costs)
    trained = _range(cost.num_trained for cost in costs)
    cuts = _range(cost.num_cuts for cost in costs)
    cut_noun = "cut" if cuts == "1" else "cuts"
    has_cuts = any(cost.num_cuts for cost in costs)
    many = any(cost.num_trained > 1 for cost in costs)
    noun = "rungs" if all(cost.has_ladder for cost in costs) else "candidates" if many else "candidate"
    parts = [f"{trained} {noun}{f' and {cuts} {cut_noun}' if has_cuts else ''} a training: {trained} × {examples}"]
    if has_cuts:
        screened = _range(n for cost in costs if cost.num_cuts for n in (cost.least_of_cut, cost.most_of_cut))
        parts.append(f" + {cuts} × {screened}")
    parts.append(" examples for loss")
    answered = [cost for cost in costs if cost.max_new_tokens is not None]
    if answered:
        most = "at most " if any(cost.is_at_most for cost in answered) else ""
        lengths = _range(cost.max_new_tokens or 0 for cost in answered)
        parts.append(
            f", {most}{_range(cost.num_answered for cost in answered)} × {examples} answers of up to {lengths} tokens"
        )
    if any(cost.num_documents for cost in costs):
        by_harness = _range(cost.num_by_harness for cost in costs)
        parts.append(f", {by_harness} × {_range(cost.num_documents for cost in costs)} documents of harness tasks")
    if any(cost.calibrating for cost in costs):
        calibrating = _range(cost.calibrating for cost in costs)
        parts.append(f", {calibrating} training examples passed for the metric of whitened cuts")
    parts.append(f", beside {_range(cost.examples_trained for cost in costs)} examples trained")
    return "".join(parts)


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
