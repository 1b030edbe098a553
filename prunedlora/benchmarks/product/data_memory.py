"""What tokenised data cost: as lists of Python's numbers, and as files that all processes of a node map.

Each way has a process of its own. Anonymous memory is what a process has to itself; pages of a mapped file are the
node's, once for all processes, and given up where memory is short.
"""

import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from prunedlora.benchmarks.product.timing import seconds_of
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.tasks.task import Features, Task
from prunedlora.training.data import BatchOrder
from prunedlora.trial.assets import TaskData, load_data, load_task
from prunedlora.trial.freed_memory import return_freed_memory
from prunedlora.trial.token_cache import SPLITS

EXAMPLE_WORDS = 100
WORDS = ("river", "stone", "cloud", "house", "letter", "window", "garden", "mirror")
NUM_HELD_OUT = 100
WARM_EXAMPLES = 300


def data_costs(trial: TrialConfig, *, num_tokens: int, num_steps: int, batch_size: int) -> dict[str, Any]:
    """Per way (lists, files of the process that writes them, files of the next one): seconds to load, bytes a token of
    anonymous memory and of mapped files, objects for the garbage collector, seconds of one collection. And the
    milliseconds of drawing and padding one step's batch, either way in turns, and their ratio.

    `trial`: whose model's tokenizer is taken; the data are made up, some `num_tokens` tokens.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made_up = made_up_data(trial, Path(scratch), num_tokens)
        alone = partial(_in_new_process, made_up, Path(scratch))
        return {
            "lists": alone(lists_memory),
            "files_written": alone(files_memory),
            "files_opened": alone(files_memory),
            "step": alone(partial(batch_seconds, num_steps=num_steps, batch_size=batch_size)),
        }


def made_up_data(trial: TrialConfig, folder: Path, num_tokens: int) -> TrialConfig:
    """The configuration with made-up texts of two classes, or of prompts and answers."""
    rng = np.random.default_rng(0)
    lines = ["text,label"]
    for number in range(max(num_tokens // EXAMPLE_WORDS, WARM_EXAMPLES)):
        words = rng.choice(WORDS, rng.integers(EXAMPLE_WORDS // 2, EXAMPLE_WORDS * 3 // 2))
        lines.append(f"{number} {' '.join(words)},{WORDS[number % 2]}")
    (folder / "made_up.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    source = {"name": str(folder / "made_up.csv"), "prompt": "{text}", "target": "{label}"}
    data = {"train": source, "num_validation": NUM_HELD_OUT, "num_test": NUM_HELD_OUT, "task": trial.data.task}
    return trial_with(trial, {"data": data})


def lists_memory(trial: TrialConfig) -> dict[str, Any]:
    """All splits as `encode` gives them, texts included."""

    def load() -> TaskData:
        splits, task = load_task(trial)
        features: dict[Any, Any] = {name: task.encode(getattr(splits, name)) for name in SPLITS}
        return TaskData(task, features, {})

    return _memory(trial, load)


def files_memory(trial: TrialConfig) -> dict[str, Any]:
    """All splits as a slot holds them."""
    return _memory(trial, lambda: load_data(trial))


def batch_seconds(trial: TrialConfig, *, num_steps: int, batch_size: int) -> dict[str, Any]:
    """Median milliseconds of a step's batch, from the order to padded tensors."""
    splits, task = load_task(trial)
    ways: dict[str, Sequence[Features]] = {
        "lists": task.encode(splits.train),
        "files": load_data(trial, None, splits).features["train"],
    }
    orders = {name: BatchOrder(features, batch_size, None, None, seed=0) for name, features in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for step in range(num_steps):
        for name, order in orders.items():
            seconds[name].append(seconds_of(partial(_batch, task, order, step)))
    milliseconds = {name: 1000 * median(found) for name, found in seconds.items()}
    return {"milliseconds": milliseconds, "ratio": milliseconds["files"] / milliseconds["lists"]}


def _batch(task: Task, order: BatchOrder, step: int) -> None:
    for micro_batch in order.micro_batches(step, 0, 1):
        task.collate(micro_batch)


def _memory(trial: TrialConfig, load: Callable[[], TaskData]) -> dict[str, Any]:
    # What libraries load at the first use, and the tokenizer, are no cost of the data.
    first = load_data(trial_with(trial, {"data.train.num_examples": WARM_EXAMPLES}))
    gc.collect()
    return_freed_memory()
    before, objects = _resident(), len(gc.get_objects())
    began = time.perf_counter()
    kept = load()
    seconds = time.perf_counter() - began
    del first
    gc.collect()
    return_freed_memory()
    after, more = _resident(), len(gc.get_objects()) - objects
    collecting = seconds_of(gc.collect)
    num_tokens = sum(len(feature.input_ids) for split in kept.features.values() for feature in split)
    return {
        "num_tokens": num_tokens,
        "load_seconds": seconds,
        "anonymous_bytes_per_token": (after["RssAnon"] - before["RssAnon"]) / num_tokens,
        "mapped_bytes_per_token": (after["RssFile"] - before["RssFile"]) / num_tokens,
        "collected_objects": more,
        "collection_seconds": collecting,
    }


def _resident() -> dict[str, int]:
    """Bytes by kind, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
    return {kind: 1024 * int(value.split()[0]) for kind, value in found.items()}


def _in_new_process(trial: TrialConfig, scratch: Path, measure: Callable[[TrialConfig], Any]) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (measure, trial.model_dump(mode="json"), str(scratch)))


def _measured(measure: Callable[[TrialConfig], Any], trial: dict[str, Any], scratch: str) -> Any:
    tempfile.tempdir = scratch  # the files of this measurement alone
    return measure(TrialConfig.model_validate(trial))
