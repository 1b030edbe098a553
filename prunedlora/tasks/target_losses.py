"""Cross-entropy at target positions: the output embedding sees no other token, and few at a time.

Over a large vocabulary the logits are what a step or an evaluation holds most of, and those of prompts and padding are
thrown away. The model computes its own hidden states; a hook in front of its output embedding takes the target
positions out of them. So whatever the embedding is (adapted, trained whole, tied, with a bias) stays in its place.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from prunedlora.tasks.batching import evaluating

CHUNK_LOGITS = 2**26
"""Most logits at once, 0.27 GB in float32: 1,365 positions of a vocabulary of 49,152, 523 of 128,256."""
ALL_AT_ONCE = 2**31
PROBE_TOKENS = 8
PROBE_FACTOR = 64.0
"""Enlarges the hidden states of the probe: a cap on logits does not show where these are small."""
PROBE_TOLERANCE = 0.02
"""Of two ways to the same logits, as a share of their norm: rounding in bfloat16 passes, another row does not."""

_POSITIONS_AT_ONCE: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()
"""What `_positions_at_once` has found, by model object."""


def target_losses(model: nn.Module, inputs: Mapping[str, Tensor], positions: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy (targets,) of each target, in at least float32.

    `inputs`: what the model reads, each (batch, tokens). `positions` (targets,) int64: where in batch × tokens,
    flattened, the logits predict `targets` (targets,), token ids. None of them is read on the CPU.

    With gradients, logits of all chunks but the last are computed again in the backward pass. Most logits held at once:
    CHUNK_LOGITS; those of all targets for a model that caps or scales its logits; those of all tokens for a model whose
    forward does not let rows of its output embedding be chosen. Which it is, is found out at the model's first use.
    """
    if model not in _POSITIONS_AT_ONCE:
        _POSITIONS_AT_ONCE[model] = _positions_at_once(model, inputs)
    at_once, head = _POSITIONS_AT_ONCE[model], _output_embedding(model)
    if at_once is None or head is None:
        return _losses(_logits(model, inputs).flatten(0, 1).index_select(0, positions), targets)
    *earlier_targets, last_targets = targets.split(at_once)
    earlier: list[Tensor] = []

    def choose(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        chunks = arguments[0].flatten(0, 1).index_select(0, positions).split(at_once)
        earlier.extend(chunks[:-1])
        return (chunks[-1][None],)  # the model itself goes on with these

    with _before(head, choose):
        last = _losses(_logits(model, inputs)[0], last_targets)
    losses = [
        checkpoint(_losses_of_hidden, head, hidden, chunk, use_reentrant=False)
        for hidden, chunk in zip(earlier, earlier_targets, strict=True)
    ]
    return torch.cat([*losses, last])


@torch.no_grad()
def _positions_at_once(model: nn.Module, inputs: Mapping[str, Tensor]) -> int | None:
    """How many rows the output embedding takes at a time; None: they cannot be chosen, the whole head is used.

    Found out on the first tokens of a row. A model is plain whose logits are its output embedding's. Other models may
    cap, scale or bias them afterwards: all rows go through the model itself, if it takes rows in another order and
    gives their logits in that order.
    """
    head = _output_embedding(model)
    if head is None:
        return None
    few = {name: tensor[:1, :PROBE_TOKENS] for name, tensor in inputs.items()}
    calls: list[tuple[Any, ...]] = []

    def enlarge(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        calls.append(tuple(PROBE_FACTOR * argument for argument in arguments))
        return calls[-1]

    def reverse(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        return (PROBE_FACTOR * arguments[0].flatten(0, 1).flip(0)[None],)

    with evaluating(model):
        with _before(head, enlarge):
            logits = _logits(model, few)
        shape = few["input_ids"].shape
        if [len(arguments) for arguments in calls] != [1] or not shape == calls[0][0].shape[:2] == logits.shape[:2]:
            return None
        if torch.equal(head(calls[0][0]).to(logits.dtype), logits):
            return max(1, CHUNK_LOGITS // logits.shape[-1])
        with _before(head, reverse):
            reversed_logits = _logits(model, few)
    if reversed_logits.shape != logits.shape:
        return None
    apart = torch.linalg.vector_norm((reversed_logits.flip(1) - logits).float())
    return ALL_AT_ONCE if apart <= PROBE_TOLERANCE * torch.linalg.vector_norm(logits.float()) else None


def _output_embedding(model: nn.Module) -> nn.Module | None:
    """The module that maps hidden states to logits, PEFT's wrapper around it included; None for a model without."""
    find: Any = getattr(model, "get_output_embeddings", None)  # PEFT's models pass it on to their base
    head: nn.Module | None = None if find is None else find()
    return head


@contextmanager
def _before(head: nn.Module, hook: Any) -> Iterator[None]:
    handle = head.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


def _losses_of_hidden(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return _losses(head(hidden), targets)


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(targets,) of logits (targets, vocabulary), computed in at least float32."""
    return functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none"
    )
