"""Find how small a LoRA adapter can be: a distributed search over hyperparameters and rank budgets with PrunedLoRA."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunedlora.config.methods import PruningConfig
    from prunedlora.integrations.transformers import PrunedLoraCallback
    from prunedlora.results.report.open_store import open_store

__all__ = ["PrunedLoraCallback", "PruningConfig", "__version__", "open_store"]
__version__ = "0.9.0"
HOMES = {
    "PrunedLoraCallback": "prunedlora.integrations.transformers",
    "PruningConfig": "prunedlora.config.methods",
    "open_store": "prunedlora.results.report.open_store",
}


def __getattr__(name: str) -> Any:
    """What `from prunedlora import …` offers, imported when it is asked for: the command line starts without torch."""
    if name not in HOMES:
        raise AttributeError(f"module 'prunedlora' has no attribute {name!r}; it offers: {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)
