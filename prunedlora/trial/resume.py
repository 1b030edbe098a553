"""Checkpoints of a running trial in the store: everything that resuming bit for bit needs, and nothing per worker."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import set_factors
from prunedlora.results.record import Candidate
from prunedlora.results.store import Store
from prunedlora.training.checkpoint import (
    load_optimizer_tensors,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Trial
from prunedlora.training.memory import Fit
from prunedlora.training.model import set_gradient_checkpointing
from prunedlora.trial.candidates import ADAPTER


def save_checkpoint(
    store: Store,
    key: str,
    live: Trial,
    candidates: list[Candidate],
    workers: Workers,
    check_writer: Callable[[], None],
) -> None:
    """Rank 0 stores the trial as it stands under `checkpoints/<step>`; the one before it goes afterwards.

    Raises StaleWriterError, by `check_writer`, before anything is stored.
    """
    if workers.rank != 0:
        return
    check_writer()
    trained = {name: parameter for name, parameter in live.model.named_parameters() if parameter.requires_grad}
    tensors: dict[str, Tensor] = {f"parameter:{name}": parameter for name, parameter in trained.items()}
    tensors |= {f"optimizer:{name}": value for name, value in optimizer_tensors(live.optimizer, live.model).items()}
    tensors |= {f"method:{name}": value for name, value in live.method.state_dict().items()}
    state = {
        "step": live.step,
        "train_seconds": live.train_seconds,
        "tokens_seen": live.tokens_seen,
        "fit": asdict(live.fit),
        "candidates": [candidate.model_dump(mode="json") for candidate in candidates],
    }
    older = store.checkpoints(key)
    name = f"{live.step:08d}"
    with tempfile.TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch) / name, tensors, state)
        store.upload_folder(Path(scratch) / name, store.trial_path(key, "checkpoints", name))
    for old in older:
        if old != name:
            store.delete_folder(store.trial_path(key, "checkpoints", old))


def load_checkpoint(store: Store, key: str, live: Trial, candidates: list[Candidate]) -> None:
    """Puts a freshly attached trial where its last checkpoint was, ranks included; does nothing when there is none.

    Raises CheckpointError naming a broken one.
    """
    names = store.checkpoints(key)
    if not names:
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder, path = Path(scratch) / names[-1], store.trial_path(key, "checkpoints", names[-1])
        store.download_folder(path, folder)
        device = next(live.model.parameters()).device
        tensors, state = read_checkpoint(folder, device, store.storage.uri_of(path))
    parts: dict[str, dict[str, torch.Tensor]] = {"parameter": {}, "optimizer": {}, "method": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(":")
        parts[part][rest] = tensor
    names_of = {parameter: name for name, parameter in live.model.named_parameters()}
    for layer in adapted_layers(live.model, ADAPTER):
        A, B = (parts["parameter"].pop(names_of[factor]) for factor in (layer.A, layer.B))
        gate = None if layer.gate is None else parts["parameter"].pop(names_of[layer.gate])
        set_factors(layer, A, B, live.optimizer, gate)
    own = dict(live.model.named_parameters())
    with torch.no_grad():
        for name, tensor in parts["parameter"].items():
            own[name].copy_(tensor)
    load_optimizer_tensors(live.optimizer, live.model, parts["optimizer"])
    live.method.load_state_dict(parts["method"])
    live.step, live.train_seconds = state["step"], state["train_seconds"]
    live.tokens_seen = state["tokens_seen"]
    live.fit = Fit(**state["fit"])
    set_gradient_checkpointing(live.model, live.fit.gradient_checkpointing)
    candidates[:] = [Candidate.model_validate(candidate) for candidate in state["candidates"]]
