"""A candidate's adapter, out of its store and into a folder: plain PEFT, checked against the base model on the way."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prunedlora.adapters.attach import load
from prunedlora.adapters.export import WEIGHTS_NAME
from prunedlora.adapters.repack import DTYPES, merge, repack
from prunedlora.adapters.size import SERVED_SLOTS
from prunedlora.adapters.verify import LOW_PRECISION_TOLERANCE, TOLERANCE, same_logits, verify
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.search.assets import load_assets, model_settings
from prunedlora.search.candidates import ADAPTER, certificate_facts, checked_batch, file_sha256
from prunedlora.search.card import CARD_FILE, CERTIFICATE_FILE, card, certificate
from prunedlora.search.finish import TEST_FILE, test_figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import autocast
from prunedlora.training.model import load_tokenizer


class ExportError(ValueError):
    """An adapter that cannot be exported as asked."""


@dataclass(frozen=True)
class Form:
    """How an adapter is handed over; without anything as it was trained."""

    slot: int | None = None
    """Rank that every layer is padded to."""
    dtype: str | None = None
    """A key of repack.DTYPES."""
    merged: bool = False
    """The whole base model with the adapter in its weights, instead of the adapter."""

    def check(self, candidate: Candidate, config: TrialConfig) -> None:
        """Raises ExportError for a form that this candidate cannot take."""
        if self.slot is not None and self.slot not in SERVED_SLOTS:
            raise ExportError(f"served slot {self.slot} is none of {', '.join(map(str, SERVED_SLOTS))}")
        if self.slot is not None and self.slot < candidate.max_rank:
            raise ExportError(f"served slot {self.slot} does not hold the adapter's largest rank, {candidate.max_rank}")
        if self.merged and self.slot is not None:
            raise ExportError("a merged model has no ranks: leave out --served-slot or --merge")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ExportError(f"dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if self.merged and (config.model.quantization or config.model.gguf_file):
            what = config.model.quantization or "GGUF"
            raise ExportError(f"cannot merge into {what} weights; merge into the original model with PEFT")


def export_candidate(store: Store, candidate: str, to: Path, *, check: bool, form: Form = Form()) -> dict[str, Any]:
    """Copies the adapter of `<key>` (its last candidate) or `<key>@<candidate>` to the new folder `to`, in `form`, with
    a model card and a certificate.

    Returns what was checked: logits of the adapter as PEFT loads it against those of the merged model and of the form
    that is handed over, and that it changes them; empty without `check`, which needs the base model and the data.

    Raises:
        ExportError: no such trial or step, the adapter was deleted or damaged, the folder exists, or the form does not
            fit.
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
    form.check(chosen, TrialConfig.model_validate(record.config))
    if to.exists():
        raise ExportError(f"{to} exists; give a new folder")
    path = store.trial_path(record.key, chosen.adapter_path)
    with tempfile.TemporaryDirectory() as scratch:
        original, result = Path(scratch) / "adapter", Path(scratch) / "result"
        store.download_folder(path, original)
        test = test_figures(store, f"{path}/{TEST_FILE}") if (original / TEST_FILE).exists() else {}
        (original / TEST_FILE).unlink(missing_ok=True)  # a figure of the sweep, no part of the adapter
        _check_file(store.storage.uri_of(path), original, chosen)
        shutil.copytree(original, result)
        repack(result, rank=form.slot, dtype=None if form.merged else form.dtype)
        facts = _hand_over(record, original, result, form) if check or form.merged else {}
        (result / CARD_FILE).write_text(card(record, chosen, test, original, form.slot), encoding="utf-8")
        document = certificate(record, chosen, facts, original, form.slot)
        (result / CERTIFICATE_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        shutil.copytree(result, to)
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


def _hand_over(record: TrialRecord, original: Path, result: Path, form: Form) -> dict[str, Any]:
    """Checks the adapter in `original` and what is handed over in `result`, where it merges first if asked to."""
    config = TrialConfig.model_validate(record.config)
    workers = Workers(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assets = load_assets(config, workers.device)
    batch = checked_batch(assets, workers)
    model = load(assets.base.model, original, ADAPTER)
    with autocast(workers.device, assets.base.dtype):
        facts = certificate_facts(verify(model, ADAPTER, original, batch, merged=config.model.quantization is None))
    if form == Form():
        return facts
    other = load_assets(config, workers.device).base.model
    tolerance = LOW_PRECISION_TOLERANCE if form.dtype in ("bfloat16", "float16") else TOLERANCE
    if form.merged:
        whole = merge(other, result)
        for file in result.iterdir():
            file.unlink()
        whole.to(None if form.dtype is None else DTYPES[form.dtype]).save_pretrained(result)
        load_tokenizer(model_settings(config)).save_pretrained(result)
        handed_over = type(whole).from_pretrained(result, dtype="auto").to(workers.device)
    else:
        handed_over = load(other, result, ADAPTER)
    facts["max_logit_difference_handed_over"] = same_logits(
        model, handed_over, batch, tolerance=tolerance, what="what is handed over"
    )
    return facts
