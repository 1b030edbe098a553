"""Figures over seeds."""

from collections.abc import Sequence

from prunedlora.results.analysis.over_seeds import mean_and_error


def over_seeds(values: Sequence[float]) -> tuple[float, float | None, int]:
    """Mean, its standard error (None for a single value) and the number of values."""
    return *mean_and_error(values), len(values)
