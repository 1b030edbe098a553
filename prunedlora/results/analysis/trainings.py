"""Trainings: what they cost in all, each once however many candidates it left, and which candidates share one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.results.analysis.evaluation_time import evaluation_share
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.figure_text import counted, seconds_text
from prunedlora.results.record import TrialRecord

MOST_NAMED = 3
"""Trainings that a sentence names."""


def is_untrained(record: TrialRecord) -> bool:
    """Whether the trial was asked for no step: an adapter that exists was measured and cut."""
    training = record.config.get("training")
    return isinstance(training, dict) and training.get("num_steps") == 0


@dataclass(frozen=True)
class Cost:
    """Of some trials, failed and stopped ones too. Tokens and examples are those that are on record: until the last
    candidate of each, which is the end of a completed one."""

    num_trainings: int
    num_untrained: int
    """Trials beside them that were asked for no step."""
    device_seconds: float
    """Of training, over all devices."""
    evaluation_seconds: float | None
    """Of measuring candidates, over all devices; None where a record does not say."""
    tokens_seen: int
    examples_seen: int
    num_stopped: int = 0
    """Of the trainings, those that ended early because others had left them behind."""
    steps_saved: int = 0
    """Optimizer steps that these had still ahead."""

    def text(self) -> str:
        """The same in words, without a full stop."""
        trainings = counted(self.num_trainings, "training")
        evaluation = ""
        if self.evaluation_seconds is not None:
            share = evaluation_share(self.device_seconds, self.evaluation_seconds)
            of_all = "" if share is None or self.num_trainings == 0 else f" ({share:.0%} of the time)"
            evaluation = f", {seconds_text(self.evaluation_seconds)} of measuring candidates{of_all}"
        if self.num_untrained > 0:
            trials = counted(self.num_untrained, "trial")
            if self.num_trainings == 0:
                return f"{trials} without training{evaluation}"
            trainings = f"{trainings} and {trials} without"
        stopped = ""
        if self.num_stopped > 0:
            stopped = f"; {self.num_stopped:,} stopped early, which saved {counted(self.steps_saved, 'step')}"
        return (
            f"{trainings}, {seconds_text(self.device_seconds)} of training over all devices, "
            f"{self.examples_seen:,} examples and {self.tokens_seen:,} tokens{evaluation}{stopped}"
        )


def cost_of(records: Sequence[TrialRecord]) -> Cost:
    """Every training counts once: what a candidate says is what had been spent until then, branches included."""
    evaluations = [record.evaluation_seconds for record in records]
    workers = [record.environment.num_workers for record in records]
    known = [seconds for seconds in evaluations if seconds is not None]
    stopped = [record.stopped_at for record in records if record.stopped_at is not None]
    complete = bool(records) and len(known) == len(records)
    return Cost(
        num_trainings=sum(not is_untrained(record) for record in records),
        num_untrained=sum(map(is_untrained, records)),
        device_seconds=sum(record.train_seconds * num for record, num in zip(records, workers, strict=True)),
        evaluation_seconds=sum(s * num for s, num in zip(known, workers, strict=True)) if complete else None,
        tokens_seen=sum(max((one.tokens_seen for one in record.candidates), default=0) for record in records),
        examples_seen=sum(max((one.examples_seen for one in record.candidates), default=0) for record in records),
        num_stopped=len(stopped),
        steps_saved=sum(round(look.step / look.share) - look.step for look in stopped),
    )


def shared_trainings(points: Sequence[Point]) -> list[tuple[str, int]]:
    """Key of each training that left several of these points, and how many; most first, then by key."""
    counts = Counter(point.key for point in points)
    return sorted(((key, n) for key, n in counts.items() if n > 1), key=lambda one: (-one[1], one[0]))


def sharing_text(front: Sequence[Point]) -> str:
    """Which points of the front are of one training, and what follows from that; empty where all are of different
    ones."""
    shared = shared_trainings(front)
    if not shared:
        return ""
    untrained = {point.key for point in front if is_untrained(point.record)}
    if untrained >= {key for key, _ in shared}:
        parts = [
            f"{count} of {len(front)} points on the front are of trial {key}" for key, count in shared[:MOST_NAMED]
        ]
        return (
            f"{', '.join(parts)}: one adapter and its cuts, none trained here. They share its luck: another "
            "seed of its training would move them together."
        )
    parts = [f"{count} of {len(front)} {_of(key, first=i == 0)}" for i, (key, count) in enumerate(shared[:MOST_NAMED])]
    more = len(shared) - MOST_NAMED
    others = f", and {more} more trainings have several" if more > 0 else ""
    return (
        f"{', '.join(parts)}{others}. Candidates of one training share its seed and its luck: another seed would move "
        "them together."
    )


def _of(key: str, *, first: bool) -> str:
    return f"points on the front share training {key}" if first else f"training {key}"
