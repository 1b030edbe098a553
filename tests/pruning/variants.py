"""What the laws of pruning are tried on: every combination of settings that a configuration may have, and the choice
of them, pair by pair, that the plain suite makes; the whole product is marked slow."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from prunedlora.config.methods import PruningConfig, section_fields
from prunedlora.registry import lookup, names
from tests.pairwise import pairwise

NUM_STEPS = 20
"""Optimizer steps of a training."""
FORMS: dict[str, tuple[Any, ...]] = {
    "basis": ("raw", "svd", "whitened"),
    "criterion": (None, *names("criterion")),
    "curvature": (None, *names("curvature")),
    "recovery_side": (None, "A", "B", "both"),
    "recovery_strength": (None, 0.0, 0.5),
    "gradient_cap": (None, 0.5),
    "moments": (None, "mapped", "reset"),
}
"""What is scored, and what becomes of the rest: settings that depend on each other. None: the setting has no effect."""
TARGET_RANKS = {None: 2, 2: 2, "served_slot": 1}
"""`round_to` → a target rank that fits it, of initial rank 6."""


def _form(values: tuple[Any, ...]) -> dict[str, Any] | None:
    """The settings of a form as the configuration resolves them; None for one that it refuses or would fill in."""
    given = dict(zip(FORMS, values, strict=True))
    schedule = {"name": "cubic", "begin": 0.2, "end": 0.8, "every_steps": 2}
    try:
        set_ones = {name: value for name, value in given.items() if value is not None}
        config = PruningConfig.model_validate({"target_rank": 2, "schedule": schedule} | set_ones)
    except ValidationError:
        return None
    if any(getattr(config, name) != value for name, value in given.items()):
        return None
    found = section_fields(config)
    return {name: found[name] for name in (*FORMS, "damping")} | {"ema_decay": found["ema_decay"] and 0.8}


def _variants() -> tuple[dict[str, dict[str, Any]], list[tuple[Any, ...]]]:
    """Name → settings, and each one's values along the axes: those of FORMS, allocation, round_to and schedule."""
    found, rows = {}, []
    forms = [(values, form) for values in product(*FORMS.values()) if (form := _form(values)) is not None]
    for (values, form), allocation, round_to, schedule in product(
        forms, names("allocation"), TARGET_RANKS, names("schedule")
    ):
        row = (*values, allocation, round_to, schedule)
        others = {"allocation": allocation, "round_to": round_to, "target_rank": TARGET_RANKS[round_to]}
        others |= {"schedule": schedule, "end": 0.8 if lookup("schedule", schedule).needs_end else None}
        found["-".join(str(value) for value in row if value is not None)] = form | others
        rows.append(row)
    return found, rows


VARIANTS, ROWS = _variants()
_IN_ORDER = list(VARIANTS)
CHOSEN = {_IN_ORDER[i] for i in pairwise(ROWS)}
"""Names of the variants that the plain suite tries: every pair of values that is allowed is in one of them."""


def _try_on(variants: Iterable[str]) -> pytest.MarkDecorator:
    marks = {name: () if name in CHOSEN else (pytest.mark.slow,) for name in variants}
    return pytest.mark.parametrize(
        "variant", [pytest.param(VARIANTS[name], id=name, marks=marks[name]) for name in marks]
    )


every_variant = _try_on(VARIANTS)
every_variant_of_a_schedule = _try_on(
    name for name, variant in VARIANTS.items() if variant["schedule"] == "cubic" or name in CHOSEN
)
"""For laws that say nothing about the schedule, which says how much goes and when: the whole product with one of them,
and the choice with all."""
