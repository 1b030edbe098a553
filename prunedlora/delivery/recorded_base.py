"""The base model that a stored adapter was trained on, as its record says, whatever its data are read as today.

What the classes are, and in which order, is on record with the adapter: targets that have changed, or are read in
another way by now, do not keep it from being handed over.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from prunedlora.delivery.class_names import recorded_labels
from prunedlora.delivery.recorded_chat import recorded_chat
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.registry import lookup
from prunedlora.results.record import RecordError, TrialRecord
from prunedlora.tasks.batching import pad_inputs
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import load_examples, load_prompts
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import length_limit, padding_token
from prunedlora.tasks.text_classification import classifier_settings
from prunedlora.training.model import BaseModel, load_tokenizer, release_memory
from prunedlora.training.positions import position_limit
from prunedlora.trial.assets import chat_of, sources_of
from prunedlora.trial.base_cache import load_base_of, model_settings
from prunedlora.trial.candidates import CHECKED_EXAMPLES, CHECKED_TOKENS


class RecordedBases:
    """Loads base models by the records of adapters, and keeps the last one: two may not fit into memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: tuple[str, BaseModel] | None = None

    def get(self, record: TrialRecord) -> BaseModel:
        """The base of this record's adapters. Raises ModelError, LocationError, TargetError, and RecordError for a
        classifier whose classes are not on record."""
        trial, settings = recorded_trial(record), task_settings(record)
        heads = trial.head_modules if trial.model.quantization is not None else None
        same = json.dumps([trial.model.model_dump(), trial.data.task, list(settings.items()), heads])
        if self._last is None or self._last[0] != same:
            self._last = None
            release_memory(self._device)
            auto_model = lookup("task", trial.data.task).auto_model
            self._last = same, load_base_of(trial, auto_model, settings, self._device)
        return self._last[1]


def task_settings(record: TrialRecord) -> dict[str, Any]:
    """What the model's configuration was given in training beside its own: number, names and order of the classes and
    the padding token; nothing for a task without classes. Raises RecordError where they are not on record."""
    trial, facts = recorded_trial(record), record.environment.model
    if not lookup("task", trial.data.task).has_classes:
        return {}
    labels, padding = recorded_labels(record), facts.get("pad_token_id")
    if labels is None or not isinstance(padding, int):
        raise RecordError(
            f"the record of trial {record.key} does not name its classes and padding token (environment.model.labels, "
            "pad_token_id): in which order its head has them cannot be told"
        )
    return classifier_settings(labels, padding)


def prompt_batch(record: TrialRecord, device: torch.device) -> dict[str, Tensor]:
    """A few prompts of the validation source (of train where that is cut from it), tokenised as whoever loads the
    adapter would, conversations written out by the template on record; of a language model their first tokens, since it
    speaks at every one. On `device`.

    Raises DataError, ModelError, LocationError, RecordError.
    """
    trial = recorded_trial(record)
    data, settings = trial.data, model_settings(trial)
    kind = lookup("task", data.task)
    tokenizer = load_tokenizer(settings)
    most = length_limit(tokenizer, data.max_length, position_limit(settings, kind.auto_model))
    if not kind.has_classes:
        most = CHECKED_TOKENS if most is None else min(most, CHECKED_TOKENS)
    source = sources_of(data, "train" if data.validation is None else "validation")[0]
    if source.prompt is None or recorded_chat(record) is not None:
        examples = load_examples(source, data.split_seed)[:CHECKED_EXAMPLES]
        rows = [row[:most] for row in _as_read(record, examples, tokenizer)]
    else:
        prompts = load_prompts(source, CHECKED_EXAMPLES)
        options = {} if most is None else {"truncation": True, "max_length": most}
        rows = tokenizer(prompts, verbose=False, **options)["input_ids"]
    batch = pad_inputs(rows, padding_token(tokenizer))
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _as_read(record: TrialRecord, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """What a model reads of these examples before it answers; the whole of a text that is no answer to anything."""
    data, chat = recorded_trial(record).data, recorded_chat(record)
    settings, few = chat_of(data), tuple(examples)
    with tempfile.TemporaryDirectory() as scratch:
        if chat is not None and chat.is_own:  # the text on record, whatever the configured file holds by now
            template = Path(scratch) / "template.jinja"
            template.write_text(chat.template, encoding="utf-8")
            settings = replace(settings, template=str(template))
        splits = Splits(few, few, few, num_duplicates_removed={}, fingerprint="")
        task = lookup("task", data.task).from_splits(splits, tokenizer, metric="loss", chat=settings)
        return [feature.prompt or feature.input_ids for feature in task.encode(few)]
