"""Sweeps with known truth, simulated example by example, as `decide` and all else that judges real ones takes them.

Every example has a difficulty that all trainings share, one that the seeds of a configuration share, and one of each
training, so that errors go together as they do in stores, if less: at an accuracy of 0.9 two trainings of one
configuration disagree on 9.7 % of the examples, and of two configurations on 12.2 % (banking77: 6.0 % and 6.2 %).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from prunedlora.corpus_figures import corpus_stderr, corpus_value
from prunedlora.results.analysis.confidence import Floats, Ints
from prunedlora.results.analysis.constraints import Constraints
from prunedlora.results.analysis.pareto import Objectives, Point, Reference, front
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import Candidate, Environment, ExampleOutcomes, Figure, TrialRecord
from prunedlora.results.store import Store

SHARED, WITHIN_CONFIGURATION = 0.6, 0.15
"""Shares of an example's difficulty that all trainings, and all seeds of a configuration, have in common."""
_CANDIDATE = Candidate(
    step=1, progress=1.0, figures={}, ranks={}, adapter_params=1, adapter_bytes=4, head_params=0, file_bytes=4,
    max_rank=1, served_slot=1, adapter_path="adapters/1", train_seconds=0.0, tokens_seen=1, examples_seen=1,
    certificate={},
)  # fmt: skip
_RECORD = TrialRecord(
    key="0", config={}, status="completed", attempts=1, candidates=(_CANDIDATE,), train_seconds=0.0,
    environment=Environment(packages={}, device="cpu", num_workers=1, model={}, data={"fingerprint": "simulated"}),
)  # fmt: skip


class Simulated(Store):
    """A store of nothing but outcomes, which lie in memory."""

    def __init__(self, outcomes: Sequence[ExampleOutcomes]) -> None:
        super().__init__("memory://simulated")
        self._outcomes = {f"{number:04d}": one for number, one in enumerate(outcomes)}

    def read_many_outcomes(self, candidates: Sequence[tuple[str, str]]) -> list[ExampleOutcomes | None]:
        return [self._outcomes[key] for key, _ in candidates]


def right_or_wrong(trainings: Sequence[Sequence[float]], num_examples: int, rng: np.random.Generator) -> Floats:
    """Right (1) or wrong (0), (P, num_examples), for trainings of these true accuracies, by configuration."""
    shared = np.sqrt(SHARED) * rng.standard_normal(num_examples)
    rows = []
    for accuracies in trainings:
        common = shared + np.sqrt(WITHIN_CONFIGURATION) * rng.standard_normal(num_examples)
        own = np.sqrt(1 - SHARED - WITHIN_CONFIGURATION) * rng.standard_normal((len(accuracies), num_examples))
        rows.append(common + own < norm.ppf(np.clip(accuracies, 0.0, 1.0))[:, None])
    return np.concatenate(rows).astype(np.float64)


def scored_sweep(scores: Floats, within: float) -> Summary:
    """A sweep of C adapters by falling size; `scores` (C, n), from 0 to 1."""
    n = scores.shape[1]
    outcomes = [
        ExampleOutcomes.model_construct(
            loss_sums=(0.0,) * n, num_targets=(1,) * n, scores={"accuracy": row}, documents=None, true_classes=None
        )
        for row in scores
    ]
    figures = [
        Figure(value=float(row.mean()), stderr=float(row.std(ddof=1) / np.sqrt(n)), num_examples=n) for row in scores
    ]
    return _sweep(Objectives("accuracy", True, "adapter_params"), outcomes, figures, within)


def lossy_sweep(sums: Floats, targets: Floats, within: float) -> Summary:
    """A sweep of C adapters by falling size; `sums` (C, n) of the losses of each example's `targets` (n,)."""
    n = sums.shape[1]
    counts = tuple(map(int, targets))
    outcomes = [
        ExampleOutcomes.model_construct(loss_sums=row, num_targets=counts, scores={}, documents=None, true_classes=None)
        for row in sums
    ]
    values = sums.sum(1) / targets.sum()
    errors = np.sqrt(n * ((sums - values[:, None] * targets) ** 2).sum(1) / (n - 1)) / targets.sum()
    figures = [
        Figure(value=float(value), stderr=float(error), num_examples=n)
        for value, error in zip(values, errors, strict=True)
    ]
    return _sweep(Objectives("loss", False, "adapter_params"), outcomes, figures, within)


def classified_sweep(name: str, true: Ints, predicted: Ints, within: float) -> Summary:
    """A sweep of C adapters by falling size, for a figure of corpus_figures.py; `true` (n,), `predicted` (C, n)."""
    n = len(true)
    outcomes = [
        ExampleOutcomes.model_construct(
            loss_sums=(0.0,) * n, num_targets=(1,) * n, scores={}, documents=None, true_classes=tuple(true.tolist()),
            predicted_classes=tuple(one.tolist()),
        )
        for one in predicted
    ]  # fmt: skip
    figures = [
        Figure(value=corpus_value(name, true, one), stderr=corpus_stderr(name, true, one), num_examples=n)
        for one in predicted
    ]
    return _sweep(Objectives(name, True, "adapter_params"), outcomes, figures, within)


def _sweep(
    objectives: Objectives, outcomes: Sequence[ExampleOutcomes], figures: Sequence[Figure], within: float
) -> Summary:
    points = []
    for number, figure in enumerate(figures):
        changes = {"adapter_params": len(figures) - number, "figures": {objectives.quality: figure}}
        candidate = _CANDIDATE.model_copy(update=changes)
        record = _RECORD.model_copy(update={"key": f"{number:04d}", "candidates": (candidate,)})
        points.append(Point(record, candidate, figure, float(candidate.adapter_params)))
    return Summary(
        store=Simulated(outcomes),
        sweep={"name": "simulated", "objectives": objectives.as_dict()},
        objectives=objectives,
        records=[point.record for point in points],
        points=points,
        front=front(points, objectives),
        reference=Reference(0.0, 1.0, "not used"),
        hypervolume=0.0,
        base=None,
        full=None,
        within=within,
        limits=Constraints(),
        recommended=None,
        exported=None,
        plans=[],
    )
