from typing import Any

import pytest


@pytest.fixture
def tree() -> dict[str, Any]:
    """A small valid sweep."""
    return {
        "name": "s",
        "storage": "runs/s",
        "objectives": {"accuracy": "maximize", "adapter_params": "minimize"},
        "num_trials": 4,
        "trial": {
            "model": {"name": "some/model"},
            "data": {
                "task": "text_classification",
                "train": {"name": "some/data", "prompt": "{text}", "target": "{label}"},
                "num_validation": 10,
                "num_test": 10,
            },
            "adapter": {"initial_rank": 8, "alpha": 8},
            "pruning": {"target_sparsity": 0.5, "schedule": {"begin": 0.2, "end": 0.6, "every_steps": 2}},
            "optimizer": {"learning_rate": 1e-3},
            "training": {"num_steps": 20, "batch_size": 4},
            "evaluation": {"metric": "accuracy"},
        },
        "space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    }
