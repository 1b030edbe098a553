"""Measures adapters on this machine: seconds to load one, and of a forward pass with it, merged, and without it.

The base model is loaded once. The three models take turns, so that what else the machine does hits them alike, and each
timed pass follows one that is not. Inputs are random tokens; only a forward pass is timed, nothing is generated.
"""

import copy
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunedlora.adapters.attach import detach, load
from prunedlora.adapters.repack import merge
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.recorded_base import RecordedBases, task_settings
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import fetch_adapter
from prunedlora.registry import lookup
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.analysis.latency_document import Conditions, Latency, write_latency
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.storage import NotAllowedError
from prunedlora.results.store import Store
from prunedlora.seeds import generator
from prunedlora.training.evaluate import autocast
from prunedlora.training.model import BaseModel, release_memory
from prunedlora.training.positions import position_limit
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.candidates import ADAPTER
from prunedlora.trial.environment import versions

PACKAGES = ("torch", "transformers", "peft")


class LatencyError(ValueError):
    """Nothing to measure, or an input that the model does not take; the message says what it does."""


@dataclass(frozen=True)
class Shape:
    """What is timed."""

    batch_size: int
    num_tokens: int
    """Length of every sequence."""
    repeat: int
    """Rounds, each with one load and one timed pass of every model."""


def measure_latencies(
    store: Store,
    names: Sequence[str],
    shape: Shape,
    on_start: Callable[[str], None],
    on_read_only: Callable[[NotAllowedError], None],
) -> list[tuple[TrialRecord, Candidate, Latency]]:
    """Measures the candidates called `<key>[@<candidate>]`, in order, and leaves the figures beside each in the store.

    All adapters are fetched and checked before the first is measured; `on_start` is called with a name when its turn
    comes. Runs on the GPU where there is one. The base model is loaded as on record, and no data. A store that may be
    read only keeps no figures: `on_read_only` is called, once, and the measuring goes on.

    Raises:
        UnknownCandidateError, StoredAdapterError, StoreError, RecordError: a candidate or adapter is not there, or not
            what was recorded.
        LatencyError: no names, or sequences longer than the model takes.
        LocationError, ModelError: the base model cannot be loaded.
    """
    if not names:
        raise LatencyError("nothing to measure: no candidate on the front has an adapter file")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = [find_candidate(store, name) for name in names]
    done = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(i) for i in range(len(found))]
        for (record, candidate), folder in zip(found, folders, strict=True):
            fetch_adapter(store, record, candidate, folder)
            _check_length(recorded_trial(record), shape.num_tokens)
            task_settings(record)
        bases, is_kept = RecordedBases(device), True
        for (record, candidate), folder in zip(found, folders, strict=True):
            on_start(f"{record.key}@{candidate.name}")
            merged = recorded_trial(record).model.quantization is None
            latency = measure_latency(bases.get(record), folder, shape, device, merged=merged)
            try:
                write_latency(store, record.key, candidate.name, latency)
            except NotAllowedError as error:
                if is_kept:
                    on_read_only(error)
                is_kept = False
            done.append((record, candidate, latency))
    return done


def measure_latency(base: BaseModel, folder: Path, shape: Shape, device: torch.device, *, merged: bool) -> Latency:
    """Measures the adapter in `folder`. The base model is left as it was; `merged` takes a copy of it, in memory, whose
    weights must not be quantised."""
    inputs = _inputs(base, shape, device)
    whole = merge(copy.deepcopy(base.model), folder).eval() if merged else None
    seconds: dict[str, list[float]] = {"load": [], "base": [], "adapter": [], "merged": []}

    def forward(model: Any) -> None:
        with torch.inference_mode(), autocast(device, base.dtype):
            model(**inputs)

    def timed_forward(model: Any) -> float:
        forward(model)
        return _seconds(lambda: forward(model), device)[0]

    for _ in range(shape.repeat):
        seconds["base"].append(timed_forward(base.model))
        loading, adapted = _seconds(lambda: load(base.model, folder, ADAPTER), device)
        seconds["load"].append(loading)
        try:
            seconds["adapter"].append(timed_forward(adapted.eval()))
        finally:
            detach(adapted)
        if whole is not None:
            seconds["merged"].append(timed_forward(whole))
    del whole
    release_memory(device)
    return Latency(
        conditions=_conditions(base, shape, device),
        load_seconds=tuple(seconds["load"]),
        base_seconds=tuple(seconds["base"]),
        adapter_seconds=tuple(seconds["adapter"]),
        merged_seconds=tuple(seconds["merged"]),
    )


def _seconds(action: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Wall-clock seconds of an action, the device's work included, and what it returned."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def _inputs(base: BaseModel, shape: Shape, device: torch.device) -> Mapping[str, Tensor]:
    """Random tokens, none of them padding."""
    embedding: Any = base.model.get_input_embeddings()
    num_words = int(embedding.weight.shape[0])
    ids = torch.randint(num_words, (shape.batch_size, shape.num_tokens), generator=generator(0, "latency"))
    padding = getattr(base.model.config, "pad_token_id", None)
    if padding is not None:
        ids[ids == padding] = (padding + 1) % num_words
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}


def _check_length(config: TrialConfig, num_tokens: int) -> None:
    limit = position_limit(model_settings(config), lookup("task", config.data.task).auto_model)
    if limit is not None and num_tokens > limit:
        raise LatencyError(f"{num_tokens} tokens are more than {config.model.name} takes: at most {limit}")


def _conditions(base: BaseModel, shape: Shape, device: torch.device) -> Conditions:
    return Conditions(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        machine=f"{_processor()}, {os.cpu_count()} cores",
        num_threads=torch.get_num_threads(),
        dtype=str(base.dtype).removeprefix("torch."),
        batch_size=shape.batch_size,
        num_tokens=shape.num_tokens,
        packages={name: version for name, version in versions().items() if name in PACKAGES},
    )


def _processor() -> str:
    """Its name where the system tells it, otherwise its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
