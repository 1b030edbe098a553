"""What is wrong with the constraints of a sweep, found in its file alone."""

from collections.abc import Mapping

from prunedlora.planned_size import PLANNED_AXES
from prunedlora.sizes import SIZES

INSTEAD = {"file_bytes": "adapter_bytes", "served_slot_bytes": "served_slot"}
"""Size that is not known before the training → one that is, and says the same."""


def constraint_problems(constraints: Mapping[str, float]) -> list[str]:
    """One line for each limit that is on no size which is known before the training, or not positive."""
    known, problems = ", ".join(PLANNED_AXES), []
    for name, limit in constraints.items():
        if name in SIZES and name not in PLANNED_AXES:
            problems.append(f"constraints.{name} is not known before a training; take {INSTEAD[name]} (known: {known})")
        elif name not in PLANNED_AXES:
            problems.append(f"constraints.{name} is no size; known: {known}")
        elif limit <= 0:
            problems.append(f"constraints.{name} must be above 0, got {limit:g}")
    return problems
