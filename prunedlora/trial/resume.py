"""Checkpoints of a running trial in the store: everything that resuming bit for bit needs, and nothing per worker."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from prunedlora.results.record import Candidate, Document, ScreenedCut
from prunedlora.results.store import Store
from prunedlora.training.checkpoint import (
    STATE,
    CheckpointError,
    read_checkpoint,
    read_state,
    write_checkpoint,
)
from prunedlora.training.gradient_checkpointing import set_gradient_checkpointing
from prunedlora.training.loss_scale import LossScale
from prunedlora.training.memory import Fit
from prunedlora.training.state import TrialState, put_state, take_state
from prunedlora.training.trial import Trial


@dataclass(frozen=True)
class Snapshot:
    """A trial as it stood, in memory of its own: the training goes on while it is stored."""

    step: int
    tensors: dict[str, Tensor]
    """On the CPU."""
    state: dict[str, Any]

    def with_found(
        self,
        candidates: Sequence[Candidate],
        screened_cuts: Sequence[ScreenedCut],
        evaluation_seconds: Mapping[str, float],
    ) -> "Snapshot":
        """The same with more of what was found since, and the time that took."""
        found = {
            "candidates": _plain(candidates),
            "screened_cuts": _plain(screened_cuts),
            "evaluation_seconds": dict(evaluation_seconds),
        }
        return replace(self, state=self.state | found)

    @property
    def name(self) -> str:
        """Rises with steps, candidates and what is found of cuts, so that no checkpoint is replaced by a later one:
        between the two there would be none."""
        name = f"{self.step:08d}-{len(self.state['candidates']):03d}"
        cuts = self.state["screened_cuts"]
        told = len(cuts) + sum(each["left_out"] is not None for each in cuts)
        return f"{name}-{told:03d}" if told else name


def snapshot(live: Trial, candidates: Sequence[Candidate], screened_cuts: Sequence[ScreenedCut]) -> Snapshot:
    """Everything that resuming needs, copied."""
    taken = take_state(live)
    state = {
        "step": live.step,
        "train_seconds": live.train_seconds,
        "evaluation_seconds": dict(live.evaluation_seconds),
        "tokens_seen": live.tokens_seen,
        "positions_seen": live.positions_seen,
        "fit": asdict(live.fit),
        "loss_scale": None if taken.loss_scale is None else asdict(taken.loss_scale),
        "candidates": _plain(candidates),
        "screened_cuts": _plain(screened_cuts),
    }
    return Snapshot(live.step, taken.tensors, state)


def store_checkpoint(store: Store, key: str, taken: Snapshot, check_writer: Callable[[], None]) -> bool:
    """Stores a snapshot under `checkpoints/<its name>`; the ones before it go afterwards. Returns whether it is new.

    Raises StaleWriterError, by `check_writer`, before anything is stored.
    """
    older = store.checkpoints(key)
    if taken.name in older:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch) / taken.name, taken.tensors, taken.state)
        check_writer()
        store.upload_folder(Path(scratch) / taken.name, store.trial_path(key, "checkpoints", taken.name))
    for old in older:
        store.delete_folder(store.trial_path(key, "checkpoints", old))
    return True


def _plain(documents: Sequence[Document]) -> list[Any]:
    return [document.model_dump(mode="json") for document in documents]


@dataclass(frozen=True)
class Reached:
    """What a trial has found that is not trained any further."""

    candidates: Sequence[Candidate] = ()
    screened_cuts: Sequence[ScreenedCut] = ()
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    tokens_seen: int = 0
    positions_seen: int = 0
    problem: str | None = None
    """Why that is not known."""


def reached(store: Store, key: str) -> Reached:
    """What the last checkpoint says, without its tensors; nothing where there is none."""
    names = store.checkpoints(key)
    if not names:
        return Reached()
    path = store.trial_path(key, "checkpoints", names[-1], STATE)
    try:
        state = read_state(store.storage.read_text(path) or "", store.storage.uri_of(path))
        candidates = [Candidate.model_validate(candidate) for candidate in state["candidates"]]
        screened = [ScreenedCut.model_validate(cut) for cut in state["screened_cuts"]]
        return Reached(
            candidates,
            screened,
            state["train_seconds"],
            sum(state["evaluation_seconds"].values()),
            state["tokens_seen"],
            state["positions_seen"],
        )
    except (CheckpointError, KeyError, ValidationError) as error:
        return Reached(problem=f"what it had found is lost: {error}")


def load_checkpoint(
    store: Store, key: str, live: Trial, candidates: list[Candidate], screened_cuts: list[ScreenedCut]
) -> None:
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
    scale = None if state["loss_scale"] is None else LossScale(**state["loss_scale"])
    put_state(live, TrialState(tensors, scale))
    live.step, live.train_seconds = state["step"], state["train_seconds"]
    live.tokens_seen, live.positions_seen = state["tokens_seen"], state["positions_seen"]
    live.evaluation_seconds = state["evaluation_seconds"]
    live.fit = Fit(**state["fit"])
    set_gradient_checkpointing(live.model, live.fit.gradient_checkpointing)
    candidates[:] = [Candidate.model_validate(candidate) for candidate in state["candidates"]]
    screened_cuts[:] = [ScreenedCut.model_validate(cut) for cut in state["screened_cuts"]]
