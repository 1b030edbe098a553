"""Learning curves: the training loss along the way, from each trial's log, and the loss of its candidates on the
validation split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.yardstick import yardstick
from prunedlora.results.record import TrialRecord
from prunedlora.results.recorded_settings import method

MOST_BRIGHT = 12
MOST_FADED = 36
"""Logs that are read for lines in the background: reading all of a large sweep would take longer than all of the
page."""
LONGEST_NAME = 18
"""Characters of a name that a legend on a phone has room for."""
BRIGHT_BINS, FADED_BINS = 60, 30
"""Points of a line: each the mean of its steps."""


@dataclass(frozen=True)
class Curve:
    record: TrialRecord
    is_bright: bool
    """Of the recommended adapter, the front, or plain LoRA."""
    is_recommended: bool
    train: tuple[tuple[float, float], ...]
    """(last step of the bin, mean of the training loss over its steps)"""
    validation: tuple[tuple[int, float], ...]
    """(step, loss on the validation split) of its candidates as they were trained"""

    @property
    def title(self) -> str:
        name = self.record.label or method(self.record)
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        return f"{short} {self.record.key[:8]}{' (recommended)' if self.is_recommended else ''}"


@dataclass(frozen=True)
class LearningCurves:
    curves: tuple[Curve, ...]
    """The recommended one first, then the front's, plain LoRA, the others by key."""
    num_left_out: int
    """Trainings with a log that is not drawn."""


def learning_curves(summary: Summary) -> LearningCurves:
    """Reads the logs of those trainings alone that are drawn. Raises RecordError for a broken log."""
    recommended = None if summary.recommended is None else summary.recommended.key
    found = yardstick(summary)
    wanted = [recommended, None if found is None else found.point.key]
    wanted += [point.key for point in summary.front]
    bright = list(dict.fromkeys(key for key in wanted if key is not None))[:MOST_BRIGHT]
    by_key = {record.key: record for record in summary.records}
    others = [key for key in sorted(by_key) if key not in bright]
    curves = [
        curve
        for key in [*bright, *others[:MOST_FADED]]
        if (curve := _curve(summary, by_key[key], is_bright=key in bright, is_recommended=key == recommended)).train
    ]
    return LearningCurves(tuple(curves), max(len(others) - MOST_FADED, 0))


def _curve(summary: Summary, record: TrialRecord, *, is_bright: bool, is_recommended: bool) -> Curve:
    log = summary.store.read_log(record.key)
    steps = [(line["step"], line["loss"]) for line in log if "loss" in line and "step" in line]
    validation = [
        (one.step, one.figures["loss"].value)
        for one in record.candidates
        if one.cut is None and "loss" in one.figures and one.step > 0
    ]
    train = _binned(steps, BRIGHT_BINS if is_bright else FADED_BINS)
    return Curve(record, is_bright, is_recommended, tuple(train), tuple(validation))


def _binned(steps: Sequence[tuple[int, float]], num_bins: int) -> list[tuple[float, float]]:
    if not steps:
        return []
    parts = np.array_split(np.array(steps, dtype=np.float64), min(num_bins, len(steps)))
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]
