"""A candidate's adapter, out of its store and into a folder, checked against the base model on the way."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from prunedlora.adapters.attach import detach, load
from prunedlora.adapters.gguf_adapter import GGUF_FILE, check_gguf_base, read_back_gguf, write_gguf
from prunedlora.adapters.repack import DTYPES, make_uniform, merge, store_as
from prunedlora.adapters.verify import check_logits, logits_of, verify
from prunedlora.delivery.companions import write_companions
from prunedlora.delivery.form import AS_TRAINED, Form
from prunedlora.delivery.known_model_type import base_config, with_model_type
from prunedlora.delivery.new_folder import new_folder
from prunedlora.delivery.older_readers import write_older_keys
from prunedlora.delivery.recorded_answers import generate_as_measured, recorded_answers
from prunedlora.delivery.recorded_base import RecordedBases, prompt_batch
from prunedlora.delivery.recorded_chat import recorded_chat
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import adapter_path, fetch_adapter
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.tested import TEST_FILE, original_test, read_test
from prunedlora.results.record import TrialRecord
from prunedlora.results.report.told import told_of
from prunedlora.results.store import Store
from prunedlora.training.evaluate import autocast
from prunedlora.training.model import load_tokenizer
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.candidates import ADAPTER, certificate_facts


def export_candidate(
    store: Store, candidate: str, to: Path, *, check: bool, form: Form = AS_TRAINED, hub: str | None = None
) -> dict[str, Any]:
    """Copies the adapter of `<key>` (its last as it was trained) or `<key>@<candidate>` to the new folder `to`, in
    `form`, with a model card, a certificate, the names of its classes, and a chat template of the configuration's own.
    `hub`: OWNER/NAME of the Hub where it goes from there, and where its card says that it is; None: in `to`.

    Returns what was checked: whether its weights are the recorded ones, and, with `check`, logits of the adapter as
    PEFT loads it against those of the merged model and of the form that is handed over, and how far it changes them
    (0 where it does nothing). That needs the base model, as on record, and a few prompts of the data (merging needs
    them anyway, and is always checked). A GGUF file needs the base's configuration, and is always read back: of how
    many tensors the numbers are the adapter's own.

    Raises:
        UnknownCandidateError: no such trial or candidate.
        StoredAdapterError and others: as `fetch_adapter`, for an adapter that was deleted or damaged.
        ExportError: the folder exists or cannot be made or written, or the form does not fit.
        GgufError: the same of GGUF for this base model, or this adapter.
        VerificationError: the adapter does not do what it should.
    """
    record, chosen = find_candidate(store, candidate)
    path = adapter_path(store, record, chosen)
    form.check(record, chosen)
    base = base_config(record) if form.gguf else None
    if base is not None:
        check_gguf_base(base)
    record = with_model_type(record)
    with new_folder(to) as fill, tempfile.TemporaryDirectory() as scratch:
        original, result = Path(scratch) / "adapter", Path(scratch) / "result"
        facts: dict[str, Any] = {"weights_file": fetch_adapter(store, record, chosen, original)}
        test = read_test(store, f"{path}/{TEST_FILE}").figures if (original / TEST_FILE).exists() else {}
        (original / TEST_FILE).unlink(missing_ok=True)  # a figure of the sweep, no part of the adapter
        shutil.copytree(original, result)
        if form.rank is not None and record.layer_widths is not None:
            make_uniform(result, form.rank, record.layer_widths)
        if form.dtype is not None and not form.merged:
            store_as(result, form.dtype)
        if check or form.merged:
            facts |= _hand_over(record, original, result, form)
        if base is not None:
            facts |= turn_into_gguf(result, base)
        began = (None if chosen.is_original else original_test(store, record)) or {}
        told = told_of(summarize(store), f"{record.key}@{chosen.name}")
        write_companions(record, chosen, result, form=form, checks=facts, test=test, began=began, told=told, hub=hub)
        fill(result)
    return facts


def turn_into_gguf(result: Path, base: PretrainedConfig) -> dict[str, Any]:
    """Puts the adapter in `result` into a GGUF file in the place of PEFT's; what reading it back found."""
    files = list(result.iterdir())
    write_gguf(result, result / GGUF_FILE, base)
    found = {"gguf_tensors_read_back": read_back_gguf(result / GGUF_FILE, result, base)}
    for file in files:
        file.unlink()
    return found


def _hand_over(record: TrialRecord, original: Path, result: Path, form: Form) -> dict[str, Any]:
    """Checks the adapter in `original` and what is handed over in `result`, where it merges first if asked to. One base
    model is in memory until a merged one is read again."""
    config = recorded_trial(record)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, loaded = prompt_batch(record, device), RecordedBases(device).get(record)
    dtype, model = loaded.dtype, load(loaded.model, original, ADAPTER)
    with autocast(device, dtype):
        facts = certificate_facts(verify(model, ADAPTER, original, batch, merged=config.model.quantization is None))
        if form in (AS_TRAINED, Form(gguf=True)):
            return facts
        expected = logits_of(model, batch)
    base = detach(model)
    if form.merged:
        whole = merge(base, result)
        for file in result.iterdir():
            file.unlink()
        if form.dtype is not None:
            whole.to(DTYPES[form.dtype])
        tokenizer, chat = load_tokenizer(model_settings(config)), recorded_chat(record)
        if chat is not None:
            tokenizer.chat_template = chat.template
        if (answers := recorded_answers(record)) is not None:
            generate_as_measured(whole, tokenizer, answers)
        whole.save_pretrained(result)
        write_older_keys(result)
        tokenizer.save_pretrained(result)
        handed_over = type(whole).from_pretrained(result, dtype="auto").to(device)
    else:
        handed_over = load(base, result, ADAPTER)
    with autocast(device, dtype):
        found = logits_of(handed_over, batch)
    low_precision = dtype != torch.float32 or form.dtype in ("bfloat16", "float16")
    difference = check_logits(expected, found, low_precision=low_precision, what="what is handed over")
    return facts | {
        "max_logit_difference_handed_over": difference.max,
        "rms_logit_difference_handed_over": difference.rms,
        "tolerance_handed_over": difference.tolerance,
    }
