"""Figures over seeds."""

import statistics
from collections.abc import Sequence
from math import sqrt


def over_seeds(values: Sequence[float]) -> tuple[float, float | None, int]:
    """Mean, its standard error (None for a single value) and the number of values."""
    stderr = statistics.stdev(values) / sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), stderr, len(values)
