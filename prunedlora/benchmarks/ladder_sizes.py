"""Sizes in parameters, told before anything is trained: from the base model without its weights."""

import json
from collections.abc import Iterator

from prunedlora.benchmarks.comparison import ComparisonError, Trainings
from prunedlora.benchmarks.ladder_variants import Variant, planned_adapters
from prunedlora.config.pins import pinned
from prunedlora.config.trial import TrialConfig
from prunedlora.results.store import Store
from prunedlora.trial.assets import Skeleton, load_skeleton, load_task
from prunedlora.trial.start import names_to_adapt, start_of


class SizesInParameters:
    """Loads each base model once, and keeps what a component takes in the layers that are adapted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._skeletons: dict[str, Skeleton] = {}
        self._of_rank_1: dict[str, int] = {}

    def of_rank_1(self, trial: TrialConfig) -> int:
        """Parameters of one component in every layer that the configuration adapts: the sum of their d_in + d_out.
        Raises DataError, ModelError, LocationError, TargetError."""
        trial = pinned(trial, self._store.binding.read_commits())
        assert trial.adapter is not None
        base = json.dumps([trial.model.model_dump(), trial.data.model_dump()])
        adapter = trial.adapter.model_dump(exclude={"method", "initial_rank", "alpha", "use_rslora", "dropout"})
        key = json.dumps([base, adapter])
        if key not in self._of_rank_1:
            if base not in self._skeletons:
                splits, task = load_task(trial)
                self._skeletons[base] = load_skeleton(trial, splits, task)
            skeleton = self._skeletons[base]
            modules = dict(skeleton.model.named_modules())
            # A layer's weight is d_in × d_out, either way round.
            layers = names_to_adapt(trial, skeleton, start_of(trial))
            self._of_rank_1[key] = sum(sum(modules[name].weight.shape) for name in layers)
        return self._of_rank_1[key]

    def of(self, label: str, trial: TrialConfig) -> Iterator[int]:
        """Those that a training is to give."""
        for planned in planned_adapters(label, trial):
            yield planned.size.parameters(self.of_rank_1(trial))


def axis_of(trainings: Trainings, sizes: SizesInParameters) -> tuple[int, int]:
    """Smallest and largest size that the trainings of a file are to give."""
    config = trainings.config
    labelled = zip(config.baselines, config.baseline_trials(), strict=True)
    every = [size for baseline, trial in labelled for size in sizes.of(baseline["label"], trial)]
    return min(every), max(every)


def component_sizes(trainings: Trainings, variant: Variant, sizes: SizesInParameters) -> dict[str, int]:
    """Training → what a component takes in its layers. Raises ComparisonError where the variant gives a number of
    parameters more than once."""
    trials = dict(
        zip((b["label"] for b in trainings.config.baselines), trainings.config.baseline_trials(), strict=True)
    )
    found = {label: sizes.of_rank_1(trials[label]) for group in variant.groups for label in group.labels}
    seen: set[int] = set()
    for planned in (planned for group in variant.groups for planned in group.planned):
        params = planned.size.parameters(found[planned.label])
        if params in seen:
            raise ComparisonError(
                f"{variant.name!r} gives {params:,} parameters more than once ({planned.label}, {planned.size})"
            )
        seen.add(params)
    return found
