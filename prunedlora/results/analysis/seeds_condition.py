"""What a statement on settings takes for granted of their seeds, and what was seen of the contrary.

From a few trainings nothing can be told of what happens once in ten of them: settings that collapse so seldom look
steady in most samples of three. So each such statement says that it holds for seeds that vary normally, everywhere in
these words, and how often that would not show.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from prunedlora.results.figure_text import percent
from prunedlora.results.record import Figure

GOES_WRONG = 0.1
"""The share of trainings in the example that is given."""
FAR = 5.0
"""Deviations by which one that fell is below the other trainings."""
FEWEST_FALLEN = 3
"""Trainings below which none can be told from the others."""
_MAD_TO_DEVIATION = 1.4826  # of normal numbers


def condition_text(num_seeds: int) -> str:
    """`num_seeds`: of the side with fewer. To stand behind a confidence."""
    return (
        f"for seeds that vary normally: a training that goes wrong once in ten is not seen by {num_seeds} seeds in "
        f"{percent(round(_unseen(num_seeds), 2))} of cases"
    )


def condition_document(num_seeds: int) -> dict[str, Any]:
    """The same as plain JSON data."""
    return {
        "assumed": "seeds vary normally",
        "num_seeds": num_seeds,
        "one_in_ten_not_seen": _unseen(num_seeds),
    }


def fallen_text(figures: Sequence[Figure], margin: float, *, maximize: bool) -> str:
    """ "1 of 9 trainings fell to 0.693 (median of the others 0.996)"; empty where none did.

    `figures`: the quality of each training of one setting. One fell that is below the median of the others by more than
    `margin`, and by more than FAR deviations: theirs, from their median absolute deviation, or the standard error of a
    figure where that is larger.
    """
    values = [figure.value for figure in figures]
    gains = [value if maximize else -value for value in values]
    noise = max((figure.stderr or 0.0 for figure in figures), default=0.0)
    fell = [index for index in range(len(gains)) if _is_fallen(gains, index, margin, noise)]
    if not fell:
        return ""
    others = statistics.median(value for index, value in enumerate(values) if index not in fell)
    to = ", ".join(f"{values[index]:.3f}" for index in fell)
    verb = "fell" if maximize else "rose"
    return f"{len(fell)} of {len(values)} trainings {verb} to {to} (median of the others {others:.3f})"


def _is_fallen(gains: Sequence[float], index: int, margin: float, noise: float) -> bool:
    if len(gains) < FEWEST_FALLEN:
        return False
    others = [*gains[:index], *gains[index + 1 :]]
    middle = statistics.median(others)
    deviation = _MAD_TO_DEVIATION * statistics.median(abs(other - middle) for other in others)
    return middle - gains[index] > max(FAR * max(deviation, noise), margin)


def _unseen(num_seeds: int) -> float:
    return float((1 - GOES_WRONG) ** num_seeds)
