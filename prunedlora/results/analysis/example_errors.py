"""How far each candidate's measured quality may be off, because it was measured on these examples and no others.

Candidates whose outcome on every example is on record, for the same data, are resampled together, so that their errors
go together. Others are drawn by themselves, from their standard error where there is nothing better: their errors are
taken for independent, which makes differences look less certain than they are.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.corpus_figures import CORPUS_FIGURES, corpus_value, largest_step
from prunedlora.results.analysis.confidence import NUM_DRAWS, Floats, Ints, draw_corpus_figures, draw_means
from prunedlora.results.analysis.harness_quality import examples_text
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.figure_text import first_of
from prunedlora.results.record import HARNESS, ExampleOutcomes
from prunedlora.results.store import Store

MOST_NAMED = 3
"""Candidates that a caveat names."""
LOSS_EXAMPLES = 400
"""Of a loss: with fewer no probability is given (`jobs/benchmark.py coverage`)."""
SHOWN_BY = 4
"""Dear examples that a loss is taken to have shown among those that it was measured on: bounds hold for costs that one
example in n / 4 has, and not for rarer ones, of which the n may show none."""
LOSS_WITHOUT_OUTCOMES = (
    "of a loss nothing is proven without outcomes by example: a standard error does not tell what is rare"
)
LOSS = "loss"
"""The figure that is a mean over targets. CORPUS_FIGURES are made of all predictions together and are computed anew for
every draw; all others are means of scores from 0 to 1, shares where these are 0 or 1."""


@dataclass(frozen=True)
class ExampleErrors:
    draws: Floats
    """(num_draws, P) measured minus true, more is better; NaN for a candidate without outcomes and standard error."""
    without_outcomes: tuple[Point, ...]
    """Drawn from their standard error: no outcome by example is on record, or not of which data."""
    on_other_data: tuple[Point, ...]
    """Resampled, but not with the rest: trained or scored on other data than most, or its loss counts other targets."""
    without_error: tuple[Point, ...]
    """Nothing is known of how far they are off: a single example."""
    outcomes: tuple[ExampleOutcomes | None, ...]
    """Of all points, as they are on record."""

    @property
    def paired(self) -> bool:
        """Whether all were compared example by example."""
        return not (self.without_outcomes or self.on_other_data or self.without_error)

    def caveats(self) -> list[str]:
        """Sentences on what was not compared example by example; none where all was."""
        lines = []
        if self.without_outcomes:
            lines.append(
                f"Of {_some(self.without_outcomes)} no outcomes by example are on record: their errors were taken for "
                "independent, which overstates the doubt."
            )
        if self.on_other_data:
            lines.append(
                f"{_some(self.on_other_data)} had other data than the rest: no pairs, and only as comparable as the "
                "data are."
            )
        if self.without_error:
            lines.append(
                f"Of {_some(self.without_error)} no standard error is known: nothing can be said of how good they are."
            )
        return lines


def example_errors(
    store: Store,
    points: Sequence[Point],
    owner: Ints,
    objectives: Objectives,
    rng: np.random.Generator,
    num_draws: int,
) -> ExampleErrors:
    """As `errors_of`, of points of one store. Raises RecordError for broken outcomes."""
    found = store.read_many_outcomes([(point.key, point.candidate.name) for point in points])
    return errors_of(points, found, owner, objectives, rng, num_draws)


def errors_of(
    points: Sequence[Point],
    found: Sequence[ExampleOutcomes | None],
    owner: Ints,
    objectives: Objectives,
    rng: np.random.Generator,
    num_draws: int,
) -> ExampleErrors:
    """Draws for all points. `found` (P,): their outcomes by example; `owner` (P,): the configuration that each is a
    training of, by number.

    Trainings of one configuration that are drawn from their standard errors have one error, as if seeds changed nothing
    about which examples are hard: they are not independent, having seen the same ones.
    """
    sign = 1.0 if objectives.maximize else -1.0
    draws = np.full((num_draws, len(points)), np.nan)
    bare = {
        int(of)
        for of, outcomes in zip(owner, found, strict=True)
        if outcomes is None or not tells(outcomes, objectives.quality)
    } | {int(of) for of, point in zip(owner, points, strict=True) if data_of(point) is None}
    alone = [index for index, of in enumerate(owner) if of in bare]
    members: dict[tuple[str | None, int, tuple[int, ...], str], list[int]] = {}  # by data, number, what is counted
    for index, outcomes in enumerate(found):
        if owner[index] not in bare and outcomes is not None:
            of, quality = counted(outcomes, objectives.quality), objectives.quality
            same = data_of(points[index]), len(outcomes.loss_sums), of, documents_of(outcomes, quality)
            members.setdefault(same, []).append(index)
    for indices in members.values():
        outcomes_of = [one for index in indices if (one := found[index]) is not None]
        draws[:, indices] = sign * paired_errors(outcomes_of, objectives.quality, rng, num_draws)
    normal = {of: rng.standard_normal(num_draws) for of in sorted(bare)}
    for index in alone:
        if (stderr := points[index].quality.stderr) is not None:
            draws[:, index] = stderr * normal[int(owner[index])]
    most = Counter({data: len(indices) for data, indices in members.items()}).most_common(1)
    return ExampleErrors(
        draws=draws,
        without_outcomes=tuple(points[index] for index in alone if points[index].quality.stderr is not None),
        on_other_data=tuple(
            points[index] for data, indices in members.items() if data != most[0][0] for index in indices
        ),
        without_error=tuple(points[index] for index in alone if points[index].quality.stderr is None),
        outcomes=tuple(found),
    )


def step_of_one(point: Point, outcomes: ExampleOutcomes | None, quality: str) -> float:
    """What one example more or less changes in the quality of a candidate at most; 0 for a loss. Of a figure of all
    classes together: by its counts, since an example of a rare class changes more; as of a mean where they are not on
    record."""
    if quality == LOSS:
        return 0.0
    if quality in CORPUS_FIGURES and outcomes is not None and tells(outcomes, quality):
        return largest_step(quality, np.array(outcomes.true_classes), np.array(outcomes.predicted_classes))
    return 1.0 / point.quality.num_examples


def one_more_example(
    points: Sequence[Point], outcomes: Sequence[ExampleOutcomes | None], objectives: Objectives
) -> Callable[[int], Floats]:
    """A function of j that gives (P,): what one example more may add to how much worse than point j each is, in units
    of the quality. Of scores that is `step_of_one`, whatever they measured. A loss has no most that an example may
    cost: the largest that one of these cost more than with j counts, or that it did for a quarter of the points. Points
    that were not scored on the same examples as j are taken at their worst beside its best.
    """
    if objectives.quality != LOSS:
        step = max(step_of_one(point, one, objectives.quality) for point, one in zip(points, outcomes, strict=True))
        return lambda j: np.full(len(points), step)
    costs = [
        None if one is None else np.array(one.loss_sums, dtype=np.float64) / sum(one.num_targets) for one in outcomes
    ]
    examples = [
        None if one is None else (data_of(point), one.num_targets) for point, one in zip(points, outcomes, strict=True)
    ]

    def beside(j: int) -> Floats:
        mine = costs[j]
        if mine is None:
            return np.zeros(len(points))
        largest = [
            0.0
            if cost is None
            else float((cost - mine).max() if examples[c] == examples[j] else cost.max() - mine.min())
            for c, cost in enumerate(costs)
        ]
        others = [one for c, one in enumerate(largest) if c != j]
        floor = float(np.quantile(others, 0.75, method="higher")) if others else 0.0
        return np.maximum(largest, floor)

    return beside


def rare_cost(
    points: Sequence[Point], outcomes: Sequence[ExampleOutcomes | None], owner: Ints, objectives: Objectives
) -> float:
    """What one example more may cost settings that others have not to pay, at most, mean over their trainings: the
    `rare` of `mean_contrasts`; 0 where it is no loss. `owner` (P,): the settings that each is a training of."""
    if objectives.quality != LOSS:
        return 0.0
    settings, first = np.unique(owner, return_index=True)
    beside = one_more_example(points, outcomes, objectives)
    costs = np.maximum(np.stack([beside(int(point)) for point in first]), 0.0)
    return max(float(costs[:, owner == of].mean(1).max()) for of in settings)


def why_no_probability(
    points: Sequence[Point], quality: str, outcomes: Sequence[ExampleOutcomes | None] | None = None
) -> str:
    """Why no bound on the true quality of these holds as often as it says, without a full stop; empty where it does:
    what one rare example may cost is not known of a loss with few examples, nor of what is no score. `outcomes`: theirs
    by example, where a loss without them is none to compare."""
    fewest = min((point.quality.num_examples for point in points), default=0)
    if quality == LOSS and outcomes is not None and None in outcomes:
        return LOSS_WITHOUT_OUTCOMES
    if quality == LOSS and fewest < LOSS_EXAMPLES:
        return (
            f"a probability takes at least {LOSS_EXAMPLES} {examples_text(LOSS)} of a loss, since one rare example may "
            f"cost any number of nats, and here are {fewest:,}"
        )
    if quality == LOSS or quality in CORPUS_FIGURES or all(0 <= point.quality.value <= 1 for point in points):
        return ""
    return f"{quality} is no score from 0 to 1, so that one rare example may change it by any number"


def rare_costs_text(points: Sequence[Point], quality: str) -> str:
    """What bounds on a loss do not know of; empty where it is none, or no probability is given."""
    if quality != LOSS or why_no_probability(points, quality):
        return ""
    fewest = min(point.quality.num_examples for point in points)
    return (
        f"No cost that is rarer than about one in {fewest // SHOWN_BY:,} examples is reckoned with: {fewest:,} "
        f"{examples_text(quality)} need not show it."
    )


def tells(outcomes: ExampleOutcomes, quality: str) -> bool:
    """Whether the quality can be computed anew from these outcomes, as resampling does."""
    if quality in CORPUS_FIGURES:
        return outcomes.true_classes is not None
    return quality == LOSS or quality in outcomes.scores


def counted(outcomes: ExampleOutcomes, quality: str) -> tuple[int, ...]:
    """What must be equal in two candidates for their outcomes to be pairs: how many targets a loss is over (another
    tokenizer or limit of length counts others), the classes; of scores nothing."""
    if quality == LOSS:
        return outcomes.num_targets
    return outcomes.true_classes or () if quality in CORPUS_FIGURES else ()


def documents_of(outcomes: ExampleOutcomes, quality: str) -> str:
    """Which documents of lm-evaluation-harness the quality was measured on, by their content; empty for a figure of the
    validation split."""
    return outcomes.documents or "" if quality.startswith(HARNESS) else ""


def data_of(point: Point) -> str | None:
    """What the examples of all splits are, as the trial recorded it; None where it did not, and nothing is paired."""
    fingerprint = point.record.environment.data.get("fingerprint")
    return None if fingerprint is None else json.dumps(fingerprint)


def paired_errors(
    outcomes: Sequence[ExampleOutcomes], quality: str, rng: np.random.Generator, num_draws: int = NUM_DRAWS
) -> Floats:
    """(num_draws, C) resampled minus measured quality of candidates that were scored on the same examples."""
    if quality in CORPUS_FIGURES:
        true = np.array(outcomes[0].true_classes)
        predicted = np.array([one.predicted_classes for one in outcomes])
        values = np.array([corpus_value(quality, true, one) for one in predicted])
        return draw_corpus_figures(quality, true, predicted, rng, num_draws) - values
    scores, weights = _scores(outcomes, quality)
    measured = scores.mean(1) if weights is None else scores.sum(1) / weights.sum(1)
    return draw_means(scores, weights, rng, num_draws) - measured


def _scores(outcomes: Sequence[ExampleOutcomes], quality: str) -> tuple[Floats, Floats | None]:
    if quality == LOSS:
        sums = np.array([one.loss_sums for one in outcomes], dtype=np.float64)
        return sums, np.array([one.num_targets for one in outcomes], dtype=np.float64)
    return np.array([one.scores[quality] for one in outcomes], dtype=np.float64), None


def _some(points: Sequence[Point]) -> str:
    return first_of([point.name for point in points], MOST_NAMED)
