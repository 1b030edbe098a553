"""The trainings of a comparison: methods × learning rates × seeds, each a labelled baseline of one ordinary sweep."""

import fnmatch
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from prunedlora.config.baselines import without_label
from prunedlora.config.identity import trial_key
from prunedlora.config.load import ConfigError
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.record import Candidate, Cut, TrialRecord
from prunedlora.results.store import Store

RATE = "optimizer.learning_rate"
FACTOR = 2.0
"""Between neighbouring learning rates."""


class ComparisonError(ValueError):
    """A comparison that cannot be made; the message names the method."""


class UntrainedError(ComparisonError):
    """A training that is wanted is not on record yet."""


@dataclass(frozen=True)
class Contender:
    """A method with the adapter that it is judged by."""

    label: str
    cut: Cut | None
    """That is judged, of the end of the training; None: the adapter as it was trained."""

    @property
    def labels(self) -> tuple[str]:
        """Of what is trained at its learning rate: its own."""
        return (self.label,)

    @property
    def name(self) -> str:
        return self.label if self.cut is None else f"{self.label}, cut to rank {self.cut.size:g}"


@dataclass(frozen=True)
class Training:
    """One training of a method, at its own learning rate times FACTOR to the `power`."""

    label: str
    power: int
    seed: int


def only(config: SweepConfig, patterns: Sequence[str]) -> SweepConfig:
    """The comparison of the methods whose labels fit one of `patterns` (fnmatch) alone, in the sweep's order; their
    trainings are the same as among all.

    Raises ComparisonError for a pattern that no label fits.
    """
    labels = [baseline["label"] for baseline in config.baselines if "label" in baseline]
    for pattern in patterns:
        if not fnmatch.filter(labels, pattern):
            raise ComparisonError(f"--only {pattern!r} fits none of: {', '.join(map(repr, labels))}")
    # A baseline without a label stays: that is refused by its own message.
    chosen = [b for b in config.baselines if any(fnmatch.fnmatch(b.get("label", p), p) for p in patterns)]
    return config.model_copy(update={"baselines": chosen})


@dataclass
class Trainings:
    """What has been trained, in a store that is also a sweep's.

    Raises ConfigError when the sweep is no comparison: it searches, a baseline has no label or sets a seed, …
    """

    config: SweepConfig
    store: Store
    run: Callable[[SweepConfig], Any]
    """Runs a sweep in the store to its end."""
    done: list[Training] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._values = {b.get("label", ""): without_label(b) for b in self.config.baselines}
        problems = []
        if self.config.space or self.config.num_trials:
            problems.append("num_trials must be 0 and the space empty: learning rates are laid out around the methods'")
        if any("label" not in baseline for baseline in self.config.baselines):
            problems.append("every baseline needs a label, the name of its method")
        if "details" in self._values:
            problems.append("no method may be called details, which is a key of the result")
        if any("seed" in baseline for baseline in self.config.baselines):
            problems.append("no baseline may set a seed: each is trained with several")
        if self.config.retention.adapters != "all":
            problems.append("retention.adapters must be all: adapters are tested after the sweep")
        if any(trial.full is not None for trial in self.config.baseline_trials()):
            problems.append("full fine-tuning leaves no adapter to test")
        if problems:
            raise ConfigError(f"{self.config.name} is no comparison:\n" + "\n".join(f"  {line}" for line in problems))

    @property
    def objectives(self) -> Objectives:
        return Objectives.parse(self.config.objectives)

    def contenders(self) -> Iterator[Contender]:
        """Every method, and every cut to one rank that method svd ends with."""
        for baseline, trial in zip(self.config.baselines, self.config.baseline_trials(), strict=True):
            yield Contender(baseline["label"], None)
            for rank in trial.svd.ranks if trial.svd is not None else ():
                yield Contender(baseline["label"], Cut(basis="svd", allocation="uniform", unit="mean_rank", size=rank))

    def trial(self, training: Training) -> TrialConfig:
        """The whole configuration of a training."""
        return trial_with(self.config.trial, self._changes(training))

    def train(self, wanted: Sequence[Training]) -> None:
        """Trains what is wanted and not there yet, with all that was wanted before."""
        self.done += [training for training in dict.fromkeys(wanted) if training not in self.done]
        baselines = [
            {"label": f"{t.label}, rate {self.rate(t.label, t.power):g}, seed {t.seed}", **self._changes(t)}
            for t in self.done
        ]
        self.run(SweepConfig.model_validate(self.config.model_dump(exclude_unset=True) | {"baselines": baselines}))

    def rate(self, label: str, power: int) -> float:
        """A method's learning rate at a power of FACTOR."""
        own = trial_with(self.config.trial, self._values[label]).optimizer.learning_rate
        return own * FACTOR**power

    def record(self, training: Training) -> TrialRecord | None:
        """What a training left; None when it failed.

        Raises UntrainedError when there is no record of it: the sweep was cut short.
        """
        record = self.store.read_record(trial_key(self.trial(training)))
        if record is None:
            raise UntrainedError(
                f"{training.label}, seed {training.seed} is not trained yet: run the same command again"
            )
        return None if record.status == "failed" else record

    def candidate(self, contender: Contender, power: int, seed: int) -> tuple[TrialRecord, Candidate] | None:
        """The adapter that the contender is judged by, None when the training failed. Raises UntrainedError."""
        record = self.record(Training(contender.label, power, seed))
        if record is None:
            return None
        (found,) = (
            candidate for candidate in record.candidates if candidate.progress == 1.0 and candidate.cut == contender.cut
        )
        return record, found

    def quality(self, contender: Contender, power: int, seeds: Sequence[int]) -> tuple[float, float]:
        """(mean quality, − mean loss) over seeds on the validation split, more is better; −inf where one failed."""
        found = [self.candidate(contender, power, seed) for seed in seeds]
        candidates = [pair[1] for pair in found if pair is not None]
        if len(candidates) < len(found):
            return -inf, -inf
        gains = [self.objectives.gain(candidate.figure(self.objectives.quality).value) for candidate in candidates]
        return statistics.fmean(gains), -statistics.fmean(candidate.figure("loss").value for candidate in candidates)

    def _changes(self, training: Training) -> dict[str, Any]:
        rate = self.rate(training.label, training.power)
        return {**self._values[training.label], RATE: rate, "seed": training.seed}
