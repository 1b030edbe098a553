"""The sweep of one trial that shrinks an adapter: made of the adapter's files and of what the command line says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from prunedlora.adapters.existing import told
from prunedlora.config.load import parse_sweep, with_overrides
from prunedlora.config.schedule import SizesConfig
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.metric_kinds import figure_name
from prunedlora.sweep.shrink_base import CLASSIFICATION, base_config, base_section, check_fit, task_of
from prunedlora.sweep.shrink_classes import check_order, known_classes
from prunedlora.sweep.shrink_data import (
    DataOptions,
    cut_number,
    data_section,
    evaluation_section,
    taken_trial,
    training_examples,
)
from prunedlora.sweep.shrink_original import Original, ShrinkError, read_original
from prunedlora.sweep.shrink_sizes import EQUAL, SHARED, are_whole_ranks, sizes_for
from prunedlora.sweep.shrink_words import plan_lines
from prunedlora.tasks.text_classification import class_order

LABEL = "shrink"
WITHIN_LOSS, WITHIN_SCORE = 0.02, 0.01
"""How much worse than the best the recommended adapter may be: in loss, and in any score from 0 to 1."""
BASES = ["svd", "whitened"]
CALIBRATION_TEXTS = 64
"""Examples that the metric of basis whitened is made of for text, of which each has many tokens: passing the usual 256
conversations forward and backward takes longer than all else that cuts take. Not measured further."""


@dataclass(frozen=True)
class ShrinkOptions:
    """What the command line says; None: not given."""

    adapter: str
    data: DataOptions
    steps: int
    """At each size; 0: the adapter is cut, and nothing is trained."""
    learning_rate: float
    batch_size: int
    revision: str | None = None
    base: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    kept: str | None = None
    mean_rank: str | None = None
    parameters: str | None = None
    within: float | None = None
    seed: int = 0
    num_workers: int = 1
    gpus_per_worker: float | None = None
    """None: 1 where this machine has a GPU, else 0."""
    overrides: Sequence[str] = field(default=())


@dataclass(frozen=True)
class ShrinkPlan:
    """A sweep of one trial, and what it is going to do in a few lines."""

    config: SweepConfig
    lines: tuple[str, ...]


def plan_shrink(options: ShrinkOptions) -> ShrinkPlan:
    """The sweep that the options ask for, checked as far as files, shapes and data tell; nothing is written.

    Raises ShrinkError and ConfigError for what does not go together or does not fit, and whatever says that adapter,
    base model's configuration or data are not there (read_original, base_config, load_examples).
    """
    original = read_original(options.adapter, options.revision)
    chosen = sizes_for(original, kept=options.kept, mean_rank=options.mean_rank, parameters=options.parameters)
    taken = taken_trial(options.data)
    model = _model(options, original, taken)
    config = base_config(original, model)
    task = _task(options, original, taken, task_of(original, config, options.data.task))
    tree = _tree(options, original, chosen.config, model, taken, task)
    ruled = [split for split in ("validation", "test") if _is_open(tree["trial"]["data"], split)]
    draft = parse_sweep(_with_data(tree, {f"num_{split}": 1 for split in ruled}), LABEL).trial
    _check_labels(options, draft)
    examples = training_examples(draft.data) if ruled or task == CLASSIFICATION else []
    known: dict[str, Any] = {f"num_{split}": cut_number(examples, options.data.data) for split in ruled}
    classes = None
    if task == CLASSIFICATION:
        found = class_order(example.target for example in examples)
        classes = known_classes(original, config, found, options.data.labels, draft.data.labels)
        known["labels"] = list(classes.names)
    check_fit(original, draft.model, task, classes)
    if classes is not None:
        check_order(original, classes)
    sweep = parse_sweep(_with_data(tree, known), LABEL)
    if options.steps == 0 and sweep.trial.training.num_steps != 0:
        raise ShrinkError(
            "--steps 0 only cuts, and --set gives trial.training another length: remove that, or say --steps"
        )
    return ShrinkPlan(sweep, tuple(plan_lines(original, sweep, ruled, chosen)))


def _model(options: ShrinkOptions, original: Original, taken: TrialConfig | None) -> ModelConfig:
    """The model section, with what the command line changes of it."""
    if taken is not None and options.base is None:
        section = taken.model.model_dump(exclude_unset=True)
    else:
        section = base_section(original, options.base)
    given = {"dtype": options.dtype, "quantization": options.quantization}
    section |= {name: value for name, value in given.items() if value is not None}
    changed = with_overrides({"trial": {"model": section}}, options.overrides)["trial"]["model"]
    try:
        return ModelConfig.model_validate(changed)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, ("trial", "model", *problem["loc"])))
        raise ShrinkError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from error


def _task(options: ShrinkOptions, original: Original, taken: TrialConfig | None, task: str) -> str:
    """Raises ShrinkError for a sweep file of another task."""
    if taken is not None and taken.data.task != task:
        raise ShrinkError(
            f"{options.data.data}: its task is {taken.data.task!r}, and {told(original.existing)} is for {task!r}"
        )
    return task


def _check_labels(options: ShrinkOptions, draft: TrialConfig) -> None:
    """Raises ShrinkError for --labels that nobody reads."""
    if options.data.labels is None:
        return
    where = f"--labels {options.data.labels} has no effect"
    if draft.data.task != CLASSIFICATION:
        raise ShrinkError(f"{where} on task {draft.data.task!r}, which has no classes; remove it")
    if draft.data.labels is not None:
        raise ShrinkError(f"{where} beside data.labels {','.join(draft.data.labels)}; remove one of them")


def _tree(
    options: ShrinkOptions,
    original: Original,
    sizes: SizesConfig,
    model: ModelConfig,
    taken: TrialConfig | None,
    task: str,
) -> dict[str, Any]:
    """The sweep as plain data, with the overrides; how many examples are cut, and labels, may still be open."""
    if taken is None:
        data, evaluation = data_section(options.data, task), evaluation_section(options.data, task)
    else:
        data = taken.data.model_dump(exclude_unset=True)
        # Milestones are of a training's course, which is another one here.
        evaluation = taken.evaluation.model_dump(exclude_unset=True, exclude={"milestones"})
    adapter: dict[str, Any] = {"start_from": options.adapter, "head_modules": list(original.heads)}
    if options.revision is not None:
        adapter["revision"] = options.revision
    if options.base is not None:
        adapter["other_base"] = True
    optimizer = {"learning_rate": options.learning_rate}
    if original.heads:
        optimizer["head_learning_rate"] = options.learning_rate
    trial = {
        "model": model.model_dump(exclude_unset=True),
        "data": data,
        "optimizer": optimizer,
        "evaluation": evaluation,
        "seed": options.seed,
        **_course(original, sizes, options.steps, adapter, task),
    }
    trial["training"] |= {"batch_size": options.batch_size}
    figure = figure_name(evaluation["metric"])
    name = f"shrink-{_slug(options.adapter)}"
    gpus = float(torch.cuda.is_available()) if options.gpus_per_worker is None else options.gpus_per_worker
    resources: dict[str, Any] = {"num_workers": options.num_workers, "gpus_per_worker": gpus}
    if options.steps == 0 and gpus == 0:
        resources["cpus_per_worker"] = torch.get_num_threads()  # this process has the machine for itself
    tree = {
        "name": name,
        "storage": f"runs/{name}",
        "objectives": {figure: "minimize" if figure == "loss" else "maximize", "adapter_params": "minimize"},
        "num_trials": 0,
        "recommend_within": options.within
        if options.within is not None
        else (WITHIN_LOSS if figure == "loss" else WITHIN_SCORE),
        "resources": resources,
        "baselines": [{"label": LABEL}],
        "trial": trial,
    }
    return with_overrides(tree, options.overrides)


def _course(
    original: Original, sizes: SizesConfig, steps: int, adapter: Mapping[str, Any], task: str
) -> dict[str, Any]:
    """How the adapter shrinks: by cuts alone, or down a ladder with the same cuts beside it."""
    described = sizes.model_dump(exclude_none=True)
    cuts: dict[str, Any] = {"sizes": described, "bases": BASES, "allocations": [SHARED]}
    if task != CLASSIFICATION:
        cuts["calibration_examples"] = CALIBRATION_TEXTS
    if steps == 0:
        if are_whole_ranks(original, sizes):
            cuts["allocations"] = [EQUAL, SHARED]
        return {"adapter": {"method": "lora", **adapter}, "training": {"num_steps": 0}, "cuts": cuts}
    ladder = {"name": "ladder", "rungs": described, "trunk": 0, "rate": "restart"}
    return {
        "adapter": {"method": "prunedlora", **adapter},
        "training": {"num_steps": steps * len(sizes.sizes)},
        "pruning": {"basis": "svd", "allocation": SHARED, "min_rank": 0, "schedule": ladder},
        "cuts": {**cuts, "at": "start"},
    }


def _is_open(data: Mapping[str, Any], split: str) -> bool:
    """Whether nobody has said where the split comes from."""
    return data.get(split) is None and data.get(f"num_{split}") is None


def _with_data(tree: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    trial = tree["trial"]
    return {**tree, "trial": {**trial, "data": {**trial["data"], **known}}}


def _slug(name: str) -> str:
    """What a store is called by: the last part of the adapter's name, in the letters that names of sweeps have."""
    last = name.rstrip("/").rpartition("/")[2]
    if last in ("", ".", "..", "~"):
        last = Path(name).expanduser().resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last)
