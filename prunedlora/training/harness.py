"""lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness) on a model in memory.

Optional: without the package `load_tasks` says how to install it, and nothing else here needs to be called. What comes
out is what `lm_eval` itself gives for the same adapter, seeds included.
"""

import difflib
import math
import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from torch import nn
from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.batching import evaluating
from prunedlora.tasks.outcomes import Figure
from prunedlora.training.distributed import Workers

PREFIX = "harness"
_UNSAFE = "harness task {!r} runs code that the model writes: allow it by unsafe_code"


class HarnessError(ValueError):
    """Harness tasks that are not there or cannot be measured as asked; the message names the task."""


@dataclass(frozen=True)
class HarnessSettings:
    """What is measured; fields as in the configuration's `evaluation.harness`."""

    names: tuple[str, ...]
    """Tasks, groups and tags of the harness's own."""
    paths: tuple[Path, ...]
    """Task files, and folders of them of which every task and group counts."""
    num_fewshot: int | None
    limit: float | None
    """Documents of each task, or their share below 1; None takes all."""
    batch_size: int
    unsafe_code: bool
    apply_chat_template: bool = False
    system_instruction: str | None = None


@lru_cache(maxsize=1)
def load_tasks(settings: HarnessSettings) -> dict[str, Any]:
    """The tasks with their documents, as `lm_eval`'s evaluator takes them. The last ones are kept: knowing the names
    of the harness's own tasks alone takes it ten seconds.

    Raises:
        HarnessError: lm-eval is not installed, an unknown name (with the near ones), a file that is no task's, a task
            whose data cannot be had, that runs code of the model's without `unsafe_code`, whose number of examples in
            the prompt is fixed, that shows more than text, or that comes twice.
    """
    if find_spec("lm_eval") is None:
        missing = ModuleNotFoundError("No module named 'lm_eval'")  # of this node: the driver has looked for its own
        raise HarnessError('harness tasks need lm-eval: pip install "prunedlora[harness]"') from missing
    from lm_eval.tasks import TaskManager

    folders = [str(path) for path in settings.paths if path.is_dir()]
    manager = TaskManager(include_path=folders, include_defaults=bool(settings.names or folders))
    _check_names(settings.names, manager.all_tasks)
    if not settings.unsafe_code:
        _check_safe(manager.task_index, settings.names)
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    with _seeded():
        for name in settings.names:
            _add(loaded, _load(manager, name, name))
        for path in settings.paths:
            for name in _in_folder(manager, path, settings) if path.is_dir() else [_checked_file(path)]:
                _add(loaded, _load(manager, name, str(path)))
    for name, task in loaded["tasks"].items():
        _check_task(name, task, settings)
    return loaded


def check_share(tasks: Mapping[str, Any], settings: HarnessSettings, num_workers: int) -> None:
    """Raises HarnessError for a task with fewer documents than workers: each needs one."""
    for name, task in tasks["tasks"].items():
        size = _sample_size(task, settings)
        if size < num_workers:
            raise HarnessError(f"harness task {name!r} has {size} documents for {num_workers} workers: each needs one")


@dataclass(frozen=True)
class Measured:
    """What the harness found, the same on all workers."""

    figures: dict[str, Figure]
    """`harness/<task>/<metric>` → figure with the harness's standard error. A filter of the harness's follows the
    metric after a comma: `harness/gsm8k/exact_match,strict-match`."""
    not_finite: dict[str, float]
    """`harness/<task>/<metric>` → NaN or infinity, of figures that are left out for it."""
    samples: dict[str, list[dict[str, Any]]]
    """Task → what the harness logs of each document, on rank 0 alone; empty unless asked for."""


def evaluate_harness(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    tasks: dict[str, Any],
    settings: HarnessSettings,
    *,
    dtype: torch.dtype,
    workers: Workers,
    template_kwargs: Mapping[str, Any] = MappingProxyType({}),
    log_samples: bool = False,
) -> Measured:
    """Measures a model by all tasks; all workers share the requests.

    `dtype` is that of autocast, as in training. `tokenizer` must be one that may be changed; its chat template is
    applied where the settings say so, with `template_kwargs`. The model and the random state of the process are left as
    they were.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.evaluator import evaluate

    from prunedlora.training.harness_model import HarnessModel

    for task in tasks["tasks"].values():
        if settings.num_fewshot is not None or task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=settings.num_fewshot or 0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    with evaluating(model), _seeded(), _in_one_process():
        measured = evaluate(
            HarnessModel(
                model,
                tokenizer,
                batch_size=settings.batch_size,
                dtype=dtype,
                workers=workers,
                template_kwargs=template_kwargs,
            ),
            tasks,
            limit=settings.limit,
            log_samples=log_samples,
            system_instruction=settings.system_instruction,
            apply_chat_template=settings.apply_chat_template,
            fewshot_as_multiturn=True,  # as `lm_eval` has it
            confirm_run_unsafe_code=settings.unsafe_code,
        )
    found: tuple[dict[str, Figure], dict[str, float]] = workers.from_first(
        None if measured is None else _figures(measured["results"])
    )
    return Measured(*found, dict(measured["samples"]) if measured is not None and log_samples else {})


def check_chat_template(
    tokenizer: PreTrainedTokenizerBase, settings: HarnessSettings, template_kwargs: Mapping[str, Any]
) -> None:
    """Raises HarnessError where a chat template is to be applied and the tokenizer has none, or has one that takes no
    system's turn, which the harness would leave out without a word."""
    if not settings.apply_chat_template:
        return
    if not tokenizer.chat_template:
        raise HarnessError(
            f"harness.apply_chat_template: the tokenizer of {tokenizer.name_or_path} has no chat template; set it to "
            "false, or name a file in data.chat_template"
        )
    if settings.system_instruction is None:
        return
    turns = [{"role": "system", "content": settings.system_instruction}, {"role": "user", "content": "?"}]
    try:
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **template_kwargs)
    except TemplateError as error:
        raise HarnessError(
            f"harness.system_instruction: the chat template takes no system's turn ({error}); remove it"
        ) from error


def num_documents(tasks: Mapping[str, Any], settings: HarnessSettings) -> int:
    """Documents that one measurement takes, of all tasks together."""
    return sum(_sample_size(task, settings) for task in tasks["tasks"].values())


def figure_name(metric: str, filter_name: str) -> str:
    """What follows `harness/<task>/`."""
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def _sample_size(task: Any, settings: HarnessSettings) -> int:
    from lm_eval.evaluator_utils import get_sample_size

    return int(min(len(task.eval_docs), get_sample_size(task, settings.limit) or math.inf))


def _check_names(names: tuple[str, ...], known: list[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=5)
        hint = f"; near it: {', '.join(near)}" if near else "; `lm-eval ls tasks` lists them"
        raise HarnessError(f"harness_tasks: lm-eval has no task {unknown[0]!r}{hint}")


def _check_safe(index: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Before anything is loaded, since such tasks fetch the code of their metric when they are: the named tasks and,
    through groups and tags, their members."""
    waiting: list[Any] = list(names)
    seen = set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += [item.get("task"), item.get("group")]
        elif item in index and item not in seen:
            seen.add(item)
            entry = index[item]
            content = entry.cfg or {}
            if content.get("unsafe_code"):
                raise HarnessError(_UNSAFE.format(item))
            if entry.kind.name in ("GROUP", "TAG"):
                waiting += [content.get("task"), *entry.tags]


def _in_folder(manager: Any, folder: Path, settings: HarnessSettings) -> list[str]:
    """Names of the groups whose files lie in a folder, and of the tasks there that are in none of the groups."""
    here = {
        name: entry.kind.name
        for name, entry in manager.task_index.items()
        if entry.yaml_path is not None and entry.yaml_path.is_relative_to(folder)
    }
    if not here:
        raise HarnessError(f"harness_tasks: {folder} holds no task file (*.yaml with a field `task`)")
    if not settings.unsafe_code:
        _check_safe(manager.task_index, tuple(here))
    groups = sorted(name for name, kind in here.items() if kind == "GROUP")
    members = {name for group in groups for name in _load(manager, group, str(folder))["tasks"]}
    members |= {name for group in groups for name in _load(manager, group, str(folder))["groups"] if name != group}
    return [name for name in sorted(here) if name not in members]


def _checked_file(path: Path) -> str:
    """The file as the harness takes it."""
    if path.suffix != ".yaml":
        raise HarnessError(f"harness_tasks: {path} is no task file: its name must end in .yaml")
    if re.search(r"^group\s*:", path.read_text("utf-8"), re.MULTILINE):
        raise HarnessError(f"harness_tasks: {path} is a group's file; give the folder that holds it and its tasks")
    return str(path)


def _load(manager: Any, name: str, given: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = manager.load([name])
    except Exception as error:  # task files run Python of their own and get data from anywhere: any error is possible
        raise HarnessError(f"harness_tasks: cannot load {given!r}: {type(error).__name__}: {error}") from error
    return found


def _add(loaded: dict[str, Any], found: Mapping[str, Any]) -> None:
    if twice := sorted(loaded["tasks"].keys() & found["tasks"].keys()):
        raise HarnessError(f"harness_tasks: task {twice[0]!r} comes twice; name it, or a group that holds it, once")
    for part, content in loaded.items():
        content |= found[part]


def _check_task(name: str, task: Any, settings: HarnessSettings) -> None:
    if getattr(task, "UNSAFE_CODE", False) and not settings.unsafe_code:
        raise HarnessError(_UNSAFE.format(name))
    if getattr(task, "MULTIMODAL", False):
        raise HarnessError(f"harness task {name!r} shows more than text, which a causal language model cannot read")
    if settings.num_fewshot and task.get_config("num_fewshot") == 0:
        raise HarnessError(
            f"harness task {name!r} is defined without examples in its prompt: num_fewshot {settings.num_fewshot} has "
            "no effect on it; measure it apart"
        )


def _figures(results: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Figure], dict[str, float]]:
    """What the harness gives, `{task: {"acc,none": …, "acc_stderr,none": …, "sample_len": …}}`, as figures, and values
    that are not finite."""
    figures, not_finite = {}, {}
    for task, values in sorted(results.items()):
        for key in sorted(key for key in values if "," in key and "_stderr," not in key):
            metric, _, filter_name = key.partition(",")
            value, stderr = float(values[key]), values.get(f"{metric}_stderr,{filter_name}")
            name = f"{PREFIX}/{task}/{figure_name(metric, filter_name)}"
            if not math.isfinite(value):
                not_finite[name] = value
                continue
            spread = float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None
            figures[name] = Figure(value, spread, int(values["sample_len"]))
    return figures, not_finite


@contextmanager
def _seeded() -> Iterator[None]:
    """The global generators as `lm_eval` seeds them, for a while."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(DEFAULT_OTHER_SEED)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextmanager
def _in_one_process() -> Iterator[None]:
    """Bootstrapped standard errors are computed here: a worker of a slot must not fork one process for every CPU of
    the machine. The resamples are the same."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before
