"""A candidate's adapter, out of its store and into a folder: plain PEFT, checked against the base model on the way."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from prunedlora.adapters.attach import detach, load
from prunedlora.adapters.export import WEIGHTS_NAME
from prunedlora.adapters.verify import verify
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.search.assets import load_assets
from prunedlora.search.candidates import ADAPTER, certificate_facts, checked_batch, file_sha256
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import autocast


class ExportError(ValueError):
    """An adapter that cannot be exported as asked."""


def export_candidate(store: Store, candidate: str, to: Path, *, check: bool) -> dict[str, Any]:
    """Copies the adapter of `<key>` (its last candidate) or `<key>@<candidate>` to the new folder `to`.

    Returns what was checked: logits of the adapter as PEFT loads it against those of the merged model, and that it
    changes them; empty without `check`, which needs the base model and the data.

    Raises:
        ExportError: no such trial or step, the adapter was deleted or damaged, or the folder exists.
        VerificationError: the adapter does not do what it should.
    """
    record, chosen = find_candidate(store, candidate)
    if chosen.adapter_path is None:
        reason = "it was deleted (retention.adapters)"
        if chosen.max_rank == 0:
            reason = "every layer has rank 0"
        elif not chosen.ranks:
            reason = "full fine-tuning leaves none"
        raise ExportError(f"{candidate}: there is no adapter at step {chosen.step}: {reason}")
    if to.exists():
        raise ExportError(f"{to} exists; give a new folder")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapter"
        store.download_folder(store.trial_path(record.key, chosen.adapter_path), folder)
        (folder / "test.json").unlink(missing_ok=True)  # a figure of the sweep, no part of the adapter
        _check_file(store.storage.uri_of(store.trial_path(record.key, chosen.adapter_path)), folder, chosen)
        facts = _check(record, folder) if check else {}
        to.mkdir(parents=True)
        for path in sorted(folder.iterdir()):
            (to / path.name).write_bytes(path.read_bytes())
    return facts


def find_candidate(store: Store, name: str) -> tuple[TrialRecord, Candidate]:
    """The record and candidate that `<key>[@<candidate>]` names ("180", or "180r4" for a truncation of step 180).

    Raises ExportError, saying what there is.
    """
    key, _, wanted = name.partition("@")
    record = store.read_record(key) if key else None
    if record is None:
        known = ", ".join(known.key for known in store.records()) or "none"
        raise ExportError(f"{store.uri} has no trial {key!r}; it has: {known}")
    names = [candidate.name for candidate in record.candidates]
    if wanted and wanted not in names:
        raise ExportError(f"trial {key} has no candidate at step {wanted!r}; it has: {', '.join(names)}")
    if not names:
        raise ExportError(f"trial {key} ({record.status}) has no candidates")
    return record, record.candidates[names.index(wanted) if wanted else -1]


def _check_file(origin: str, folder: Path, candidate: Candidate) -> None:
    """Raises ExportError when the weights are not the ones that were recorded."""
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise ExportError(f"{origin} has no {WEIGHTS_NAME}: the adapter is gone or damaged")
    if candidate.file_sha256 is not None and (found := file_sha256(path)) != candidate.file_sha256:
        raise ExportError(
            f"{origin}/{WEIGHTS_NAME} is damaged: sha256 {found[:12]}…, {candidate.file_sha256[:12]}… was recorded"
        )


def _check(record: TrialRecord, folder: Path) -> dict[str, Any]:
    config = TrialConfig.model_validate(record.config)
    workers = Workers(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assets = load_assets(config, workers.device)
    model = load(assets.base.model, folder, ADAPTER)
    try:
        merged = config.model.quantization is None
        with autocast(workers.device, assets.base.dtype):
            certificate = verify(model, ADAPTER, folder, checked_batch(assets, workers), merged=merged)
    finally:
        detach(model)
    return certificate_facts(certificate)
