"""Every registered criterion, curvature and allocation, and every basis: what the laws of pruning are tried on."""

from typing import Any

import pytest

from prunedlora.registry import lookup, names

NUM_STEPS = 20
"""Optimizer steps of a training."""
OFF = {"recovery_side": None, "curvature": None, "damping": None}


def of_criterion(name: str) -> dict[str, Any]:
    """A criterion with what it needs and no recovery that it does not bring."""
    criterion = lookup("criterion", name)
    if criterion.uses_curvature:
        return {"criterion": name}
    if criterion.own_curvature is not None:
        return {"criterion": name, "curvature": None}
    return {"criterion": name, "recovery_strength": 0.0, **OFF} | ({} if criterion.statistics else {"ema_decay": None})


CURVATURES = {
    f"{curvature}-{side}-{allocation}": {"curvature": curvature, "recovery_side": side, "allocation": allocation}
    for curvature in names("curvature")
    for side in ("A", "B", "both")
    for allocation in names("allocation")
}
OTHER_CRITERIA = {
    f"{name}-{allocation}": of_criterion(name) | {"allocation": allocation}
    for name in names("criterion")
    if name != "gradient"
    for allocation in ("uniform", "global")
}
BASES = {
    f"{basis}-{moments}-{allocation}": {
        "basis": basis,
        "criterion": None,
        "recovery_strength": None,
        "moments": moments,
        "allocation": allocation,
        **OFF,
        **({"damping": 0.01} if basis == "whitened" else {"ema_decay": None}),
    }
    for basis in ("svd", "whitened")
    for moments in ("mapped", "reset")
    for allocation in ("uniform", "global")
}
MORE = {
    "capped gradient": {"gradient_cap": 0.5},
    "magnitude with recovery": {"criterion": "magnitude", "recovery_strength": 0.5},
    "taylor with recovery of both, by parameters": {
        "criterion": "taylor",
        "recovery_side": "both",
        "recovery_strength": 1.0,
        "allocation": "global_per_parameter",
    },
    "activation with recovery on A": {"criterion": "activation", "recovery_side": "A", "curvature": "batch"},
    "blocks": {"allocation": "global", "round_to": 2},
    "slots": {"allocation": "global", "round_to": "served_slot", "target_rank": 3},
    "blocks by parameters": {"allocation": "global_per_parameter", "round_to": 3, "target_rank": 3},
    "slots by parameters": {"allocation": "global_per_parameter", "round_to": "served_slot", "target_rank": 3},
    "plain removal": {"recovery_strength": 0.0},
}
VARIANTS: dict[str, dict[str, Any]] = CURVATURES | OTHER_CRITERIA | BASES | MORE
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
