"""Gradient checkpointing, a switch on a loaded model: activations are computed again in the backward pass."""

from torch import nn

from prunedlora.training.model import ModelError


def can_checkpoint(model: nn.Module) -> bool:
    """Whether the model, adapted or not, knows gradient checkpointing."""
    return bool(getattr(_transformers_model(model), "supports_gradient_checkpointing", False))


def set_gradient_checkpointing(model: nn.Module, on: bool) -> None:
    """Switches the recomputation of activations in the backward pass on or off, on the base itself where `model` is
    adapted. What it gives is the same either way.

    Raises ModelError for a model that does not know it.
    """
    base = _transformers_model(model)
    if not can_checkpoint(base):
        if on:
            raise ModelError(
                f"model.gradient_checkpointing: {type(base).__name__} has no gradient checkpointing; set it to false"
            )
        return
    # transformers 5.24 renames both, and warns of the older names.
    prefix = "activation" if hasattr(base, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(base, f"{prefix}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(base, f"{prefix}_checkpointing_disable")()


def _transformers_model(model: nn.Module) -> nn.Module:
    """The model itself, out of PEFT's wrapper."""
    inner: nn.Module = getattr(model, "get_base_model", lambda: model)()
    return inner
