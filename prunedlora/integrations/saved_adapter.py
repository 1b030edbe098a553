"""An adapter that a training under a Trainer leaves: small, in a folder, and compared with the one that was trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from prunedlora.adapters.export import export
from prunedlora.adapters.plain import PlainLayer
from prunedlora.adapters.verify import VerificationError, verify_reloaded
from prunedlora.adapters.verify_shrunk import verify_shrunk
from prunedlora.integrations.trainer_checks import CallbackError

ADAPTER_FOLDER = "pruned_adapter"
"""Of the adapter at the end, inside the Trainer's output_dir."""


def save_adapter(model: Any, adapter_name: str, folder: Path, layers: Sequence[PlainLayer]) -> None:
    """Makes `folder` a plain PEFT adapter of a PeftModel's adapter, whose components are those of `layers`."""
    base = model.peft_config[adapter_name].base_model_name_or_path or ""
    export(model, adapter_name, folder, base, layers=layers)


def check_saved(
    model: Any,
    adapter_name: str,
    folder: Path,
    trained: Sequence[PlainLayer],
    layers: Sequence[PlainLayer],
    example: Mapping[str, Tensor] | None,
) -> None:
    """Compares `folder` with `layers`, of which it was made, those with the layers as they were `trained`, what is held
    at zero among them, and the folder's logits with the model's.

    `example`: for logits; None: weights alone are compared. The model is left as it was. Raises CallbackError, which
    says where the adapter lies.
    """
    try:
        verify_shrunk(trained, layers)
        verify_reloaded(model, adapter_name, folder, example, layers=layers)
    except VerificationError as error:
        raise CallbackError(f"what was saved in {folder} is not the adapter that was trained: {error}") from error
    except Exception as error:  # whatever model code raises: the training has been made, its adapter is to be found
        raise CallbackError(
            f"the trained adapter lies in {folder}, but could not be compared with the model: "
            f"{type(error).__name__}: {error}"
        ) from error
