"""Padding, batches of like length, and the state in which a model is evaluated."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from prunedlora.adapters.module_modes import in_evaluation_mode
from prunedlora.tasks.task import Features
from prunedlora.tasks.tokenised import lengths_of

IGNORED = -100
"""The label that is no target, as everywhere in transformers."""


def pad(rows: Sequence[Sequence[int]], value: int, side: Literal["left", "right"] = "right") -> Tensor:
    """(len(rows), longest row) int64, filled up with `value`."""
    return _filled(rows, value, _places(rows, side))


def pad_inputs(
    rows: Sequence[Sequence[int]], pad_token_id: int, side: Literal["left", "right"] = "right"
) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, both (len(rows), longest row) int64; the mask is 0 on padding."""
    places = _places(rows, side)
    return {
        "input_ids": _filled(rows, pad_token_id, places),
        "attention_mask": torch.from_numpy(places.astype(np.int64)),
    }


def _places(rows: Sequence[Sequence[int]], side: Literal["left", "right"]) -> np.ndarray:
    """(len(rows), longest row) bool: where the rows' own entries stand."""
    lengths = np.array([len(row) for row in rows])
    right = np.arange(lengths.max()) < lengths[:, None]
    return right if side == "right" else right[:, ::-1]


def _filled(rows: Sequence[Sequence[int]], value: int, places: np.ndarray) -> Tensor:
    filled = np.full(places.shape, value, np.int64)
    filled[places] = np.fromiter(chain.from_iterable(rows), np.int64)
    return torch.from_numpy(filled)


def by_length(features: Sequence[Features], batch_size: int) -> Iterator[list[int]]:
    """Indices of the features of each batch, longest first: little padding, and too little memory shows at once."""
    lengths = lengths_of(features)
    indices = sorted(range(len(features)), key=lambda index: -lengths[index])
    for start in range(0, len(indices), batch_size):
        yield indices[start : start + batch_size]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout, no gradients; afterwards every module is in the mode it was in.

    Not inference mode: tensors that a model caches under it (rotary tables) could not be used in training afterwards.
    """
    with in_evaluation_mode(model), torch.no_grad():
        yield


def to_device(batch: dict[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """The batch on `device`."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
