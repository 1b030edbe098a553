"""Settings, not adapters: what several trainings of the same settings, each with its own seed, tell of any other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.results.analysis.confidence import Floats


@dataclass(frozen=True)
class MeanContrast:
    """Mean of one setting's trainings minus that of another's, in units of the quality, more is better."""

    difference: float
    low: float
    high: float
    """Two-sided, for all contrasts of one call at once; infinite where one of both was trained once, or a training of
    one failed: nothing can be said then of what the settings give."""


def mean_contrasts(
    gains: Sequence[Floats],
    errors: Sequence[Floats],
    pairs: Sequence[tuple[int, int]],
    confidence: float,
    rng: np.random.Generator,
) -> list[MeanContrast]:
    """Contrasts of settings `pairs` (first, second), by number.

    `gains[c]` (num_seeds of c,): measured quality of each training, more is better. `errors[c]` (num_draws, num_seeds
    of c): resampled minus measured, drawn together for all settings (`example_errors`), so that pairs of examples show.
    Noise of the seeds is estimated for each setting by itself, never pooled: a steady one says nothing of a restless
    one. It is per training; rungs and cuts of one training are contrasts of their own with the same trainings.
    """
    raise NotImplementedError
