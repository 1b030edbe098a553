"""The end of a training under a Trainer: the small adapter in its folder, compared with the one that was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from prunedlora.adapters.export import export
from prunedlora.adapters.plain import PlainLayer, plain_layers
from prunedlora.adapters.verify import VerificationError, verify_reloaded
from prunedlora.adapters.verify_shrunk import verify_shrunk
from prunedlora.integrations.trainer_checks import CallbackError

ADAPTER_FOLDER = "pruned_adapter"
"""Inside the Trainer's output_dir."""


def save_adapter(model: Any, adapter_name: str, output_dir: str | None) -> Path:
    """Where the adapter of a PeftModel now lies as a plain PEFT adapter."""
    folder = Path(str(output_dir)) / ADAPTER_FOLDER
    export(model, adapter_name, folder, model.peft_config[adapter_name].base_model_name_or_path or "")
    return folder


def check_saved(
    model: Any, adapter_name: str, folder: Path, trained: Sequence[PlainLayer], example: Mapping[str, Tensor] | None
) -> None:
    """Compares `folder` with the model's adapter, and that with the layers as training left them, before they shrank.

    `example`: for logits; None: weights alone are compared. Raises CallbackError, which says where the adapter lies.
    """
    try:
        verify_shrunk(trained, plain_layers(model, adapter_name))
        verify_reloaded(model, adapter_name, folder, example)
    except VerificationError as error:
        raise CallbackError(f"what was saved in {folder} is not the adapter that was trained: {error}") from error
    except Exception as error:  # whatever model code raises: the training is over, and its adapter is to be found
        raise CallbackError(
            f"the trained adapter lies in {folder}, but could not be compared with the model: "
            f"{type(error).__name__}: {error}"
        ) from error
