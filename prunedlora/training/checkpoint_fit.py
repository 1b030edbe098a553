"""Whether a checkpoint holds what its model needs: found from names and shapes of its weights, which are not read."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging as transformers_logging

from prunedlora.hub_access import access_hint
from prunedlora.training.model import ModelError, ModelSettings


def missing_weights(
    settings: ModelSettings, auto_model: str, model_settings: Mapping[str, Any]
) -> frozenset[str] | None:
    """Names of the parameters that the checkpoint lacks, as `load_base` will find them: each must train. None where
    that is not known here: weights of the Hub that are not in this machine's cache, and GGUF, which is slow to read.

    Raises ModelError for a folder without weights, weights that cannot be read, and weights of other shapes than the
    config's.
    """
    if settings.gguf_file is not None:
        return None
    is_here = Path(settings.location).exists()
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "device_map": {"": "meta"},
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
        **settings.config_overrides,
        **model_settings,
        **settings.source_options(),
    }
    try:
        with _quiet():
            _, info = getattr(transformers, auto_model).from_pretrained(settings.location, **options)
    except Exception as error:  # broken files raise whatever their reader raises
        if not is_here and isinstance(error, OSError):
            return None
        raise ModelError(
            f"cannot load the weights of model {settings.location!r}: {error}{access_hint(error)}"
        ) from error
    if info["mismatched_keys"]:
        name, stored, wanted = sorted(info["mismatched_keys"])[0]
        overrides = f" (with model.config_overrides {dict(settings.config_overrides)})" * bool(
            settings.config_overrides
        )
        raise ModelError(
            f"model {settings.location!r}: {name} has shape {tuple(stored)} in the checkpoint and {tuple(wanted)} by "
            f"the config{overrides}; {len(info['mismatched_keys'])} weights in all are not of the config's shapes"
        )
    return frozenset(info["missing_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no table of missing weights: the caller says what matters."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
