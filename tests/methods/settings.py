"""Settings for every method's section, so that the conformance tests can make any registered method."""

from typing import Any

PRUNING: dict[str, Any] = {
    "basis": "raw",
    "criterion": "gradient",
    "curvature": "token",
    "ema_decay": 0.9,
    "damping": 0.01,
    "recovery_strength": 1.0,
    "recovery_side": "B",
    "gradient_cap": None,
    "moments": None,
    "target_sparsity": None,
    "target_rank": 2,
    "schedule": "cubic",
    "begin": 0.1,
    "end": 0.9,
    "every_steps": 3,
    "allocation": "global",
    "min_rank": 1,
    "round_to": None,
    "rate_growth": 0.0,
}
BY_SECTION: dict[str | None, dict[str, Any]] = {
    None: {},
    "pruning": PRUNING,
    "droplora": {"probability": 0.5, "granularity": "rank"},
    # A threshold at which gates of a few steps fall.
    "l1ra": {"gate_learning_rate": 0.05, "gate_penalty": 0.3, "threshold": 0.93, "every": 0.25},
    "adalora": {
        "target_rank": 2,
        "begin": 0.2,
        "end": 0.8,
        "every_steps": 2,
        "sensitivity_decay": 0.85,
        "uncertainty_decay": 0.85,
        "orthogonality": 0.1,
    },
    "svd": {"ranks": [3, 1]},
    "full": {"head_modules": ["bert.pooler", "classifier"]},
}
