"""The sweep of one trial that shrinks an adapter: made of the adapter's files and of what the command line says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from prunedlora.adapter_place import STORED
from prunedlora.adapters.existing import told
from prunedlora.config.load import parse_sweep, with_overrides
from prunedlora.config.schedule import SizesConfig
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.metric_kinds import figure_name
from prunedlora.sweep.shrink_base import CLASSIFICATION, base_config, base_section, check_fit, task_of
from prunedlora.sweep.shrink_classes import class_labels
from prunedlora.sweep.shrink_data import (
    DataOptions,
    cut_number,
    data_lines,
    data_section,
    evaluation_section,
    taken_trial,
    training_examples,
)
from prunedlora.sweep.shrink_original import Original, ShrinkError, read_original
from prunedlora.sweep.shrink_sizes import EQUAL, SHARED, are_whole_ranks, most_parameters, sizes_for
from prunedlora.tasks.text_classification import class_order

LABEL = "shrink"
WITHIN_LOSS, WITHIN_SCORE = 0.02, 0.01
"""How much worse than the best the recommended adapter may be: in loss, and in any score from 0 to 1."""
BASES = ["svd", "whitened"]


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
    """A sweep, and what it is going to do."""

    config: SweepConfig
    lines: tuple[str, ...]


def plan_shrink(options: ShrinkOptions) -> ShrinkPlan:
    """The sweep that the options ask for, checked as far as files, shapes and data tell; nothing is written.

    Raises ShrinkError, ConfigError, and what `read_original`, `load_examples` and `load_model_config` raise.
    """
    original = read_original(options.adapter, options.revision)
    sizes = sizes_for(original, kept=options.kept, mean_rank=options.mean_rank, parameters=options.parameters)
    taken = taken_trial(options.data)
    model = _model(options, original, taken)
    config = base_config(original, model)
    task, data, evaluation = _judged_by(options, original, task_of(original, config) if _asks(options) else None, taken)
    tree = _tree(options, original, sizes, model, data, evaluation)
    ruled = [split for split in ("validation", "test") if _is_open(tree["trial"]["data"], split)]
    for split in ruled:
        tree["trial"]["data"][f"num_{split}"] = 1  # until the data are known
    draft = parse_sweep(tree, LABEL).trial.data
    examples = training_examples(draft) if ruled or task == CLASSIFICATION else []
    for split in ruled:
        tree["trial"]["data"][f"num_{split}"] = cut_number(examples, options.data.data)
    num_classes = None
    if task == CLASSIFICATION:
        found = class_order(example.target for example in examples)
        num_classes = len(found)
    check_fit(original, model, task, num_classes)
    if num_classes is not None and tree["trial"]["data"].get("labels") is None:
        tree["trial"]["data"]["labels"] = class_labels(original, config, found, options.data.labels)
    plan = parse_sweep(tree, LABEL)
    return ShrinkPlan(plan, tuple(_lines(options, original, sizes, plan, ruled)))
