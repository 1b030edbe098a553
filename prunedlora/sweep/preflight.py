"""What can be found out about a sweep before anything starts: that its models and data are there and fit together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedModel

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.adapters.size import has_stacked_layers
from prunedlora.adapters.targets import resolve_head
from prunedlora.config.corners import corners
from prunedlora.config.identity import trial_key
from prunedlora.config.pins import pinned
from prunedlora.config.stopping_section import StoppingConfig
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.methods.method import Method
from prunedlora.pruning.target import Start
from prunedlora.registry import lookup
from prunedlora.servers.adapter_shape import AdapterShape
from prunedlora.settings_error import SettingsError
from prunedlora.sweep.evaluation_cost import (
    DataFacts,
    EvaluationCost,
    cost_of,
    evaluation_lines,
    generation_warning,
)
from prunedlora.sweep.findings import Findings, data_line, warnings_of
from prunedlora.sweep.limits import limits_of
from prunedlora.sweep.model_checks import (
    TokenFacts,
    check_attached,
    check_tokens,
    missing_of,
    model_warnings,
    token_facts,
)
from prunedlora.sweep.served_plans import Trained, check_servers, planned_shape, served_planner
from prunedlora.sweep.size_checks import check_sizes, size_settings
from prunedlora.sweep.tiny_batch import is_small, try_batch
from prunedlora.sweep.training_amount import TrainingAmount, amount_of
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Features, Task
from prunedlora.trial.assemble import build_method, num_steps
from prunedlora.trial.assets import Skeleton, load_skeleton, load_task
from prunedlora.trial.planned_sizes import PLACES, data_key, layers_key, placement, planner
from prunedlora.trial.start import labels_of, share_of, start_of
from prunedlora.trial.token_cache import tokenised
from prunedlora.trial.trial_harness import load_harness

FLASH_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn",
}
"""What each is imported from; without, transformers takes its kernels from the Hub through the package kernels."""

BASE = ""
"""Name of the search's trainings among the baselines' names."""


class PreflightError(ValueError):
    """A sweep whose trials could not run; the message names the setting."""


@dataclass(frozen=True)
class _Loaded:
    """What several trials of a sweep share."""

    splits: Splits
    task: Task
    skeleton: Skeleton
    tokens: TokenFacts
    facts: DataFacts
    train: Sequence[Features]
    missing: frozenset[str] | None
    """Parameters that the checkpoint lacks, where known."""


def preflight(config: SweepConfig, commits: Mapping[str, str | None] = MappingProxyType({})) -> Findings:
    """Loads the data, harness tasks with theirs, and builds every model of the sweep without its weights: what is worth
    saying of them. `commits`: what names on the Hub stand for (config/pins.py).

    Raises:
        LocationError, DataError, ModelError, TargetError, HarnessError: a model, dataset, column, label, length,
            module, harness task, figure of one or chat template that is not as the configuration says.
        SettingsError: a target, a rung or a cut that the layers cannot come to, with the baseline or the corner of the
            space that names it.
        LimitsError: constraints that no suggestion can meet.
        ServeOnError: a server that serves nothing right of what the sweep can leave.
        PreflightError: an objective that the model has no figure for, quantised weights or FlashAttention without
            their package, fewer examples than workers or than asked for, or a classification head that would not train.
    """
    loaded: dict[str, _Loaded] = {}
    attached: dict[str, dict[str, Start | None]] = {}
    possible: set[tuple[str, str, str]] = set()
    lines: dict[str, None] = {}
    shares: list[AdaptedShare] = []
    warnings: dict[str, None] = {}
    fingerprints: dict[str, tuple[dict[str, Any], str]] = {}
    costs: dict[str, list[EvaluationCost]] = {}
    amounts: dict[str, list[TrainingAmount]] = {}
    documents: dict[str, int] = {}
    layers: dict[str, Start] = {}
    num_train: dict[str, int] = {}
    shapes: dict[str, AdapterShape] = {}
    trained: list[Trained] = []
    for name, where, written in _distinct(config):
        trial_key(written)
        trial = pinned(written, commits)
        _check_packages(trial.model)
        labels = labels_of(trial, start_of(trial))
        sections = trial.data, trial.model, trial.evaluation
        identity = json.dumps([*(section.model_dump() for section in sections), labels])
        if identity not in loaded:
            loaded[identity] = _load(trial, labels)
            lines[data_line(loaded[identity].splits)] = None
            warnings |= dict.fromkeys(warnings_of(trial, loaded[identity].splits, loaded[identity].task))
        found = loaded[identity]
        splits, task, skeleton = found.splits, found.task, found.skeleton
        model = skeleton.model
        fingerprints[written.data.model_dump_json()] = written.data.model_dump(mode="json"), splits.fingerprint
        if "served_slot_bytes" in config.objectives and has_stacked_layers(model):
            raise PreflightError(
                f"objective 'served_slot_bytes' is not known for {type(model).__name__}, which keeps several layers in "
                "one tensor (experts); take served_slot or file_bytes"
            )
        heads = resolve_head(model, trial.head_modules)
        share = share_of(trial, skeleton, start_of(trial))
        if share is not None and share not in shares:
            shares.append(share)
        steps = num_steps(trial, len(splits.train))
        method = _method(trial, steps, where)
        _check_head(trial, task, model, heads)
        starts = attached.setdefault(identity, {})
        is_first = not starts
        if (shape := placement(trial)) not in starts:
            warnings |= dict.fromkeys(model_warnings(trial, task, skeleton))
            with _told(where):
                starts[shape] = check_attached(trial, task, skeleton, steps, found.missing)
            if starts[shape] is None:
                warnings[f"method {trial.method!r} needs the weights: whether it goes onto the model is not known"] = (
                    None
                )
                loaded[identity] = replace(found, skeleton=load_skeleton(trial, splits, task))
        start = starts[shape]
        is_trained = name != BASE or config.num_trials > 0  # else the baselines alone are
        served = planned_shape(trial, loaded[identity].skeleton) if config.serve_on and is_trained else None
        if served is not None:
            shapes[layers_key(written)] = served
            trained.append(Trained(where, written, served))
        num_train[data_key(written)] = len(splits.train)
        if start is not None:
            layers[layers_key(written)] = start
        if start is not None and (decides := (identity, shape, size_settings(trial))) not in possible:
            with _told(where):
                check_sizes(trial, method, start)
            possible.add(decides)
        if is_first and is_small(skeleton):
            try_batch(trial, task, skeleton, steps, found.tokens.tried)
        _check_sizes(trial, splits, config.resources.num_workers)
        if config.stopping is not None:
            _check_looks(config.stopping, trial, len(splits.validation), config.resources.num_workers)
            if name == BASE and config.num_trials > 0 and (where or not config.space):
                with _told(where):
                    _check_look_steps(config.stopping, steps)
        if identity not in documents:
            harness = load_harness(trial, config.resources.num_workers)
            documents[identity] = 0 if harness is None else harness.num_documents
        if is_trained:
            cost = cost_of(trial, steps, found.facts, documents[identity])
            costs.setdefault(name, []).append(cost)
            workers = config.resources.num_workers
            if where:  # the base itself is none of the trainings, unless a corner of the space is like it
                amounts.setdefault(name, []).append(amount_of(trial, steps, found.train, workers, cost))
    if warning := generation_warning(cost for some in costs.values() for cost in some):
        warnings[warning] = None
    plans = planner(layers, num_train)
    if trained:
        warnings |= dict.fromkeys(check_servers(config.serve_on, trained, plans))
    plans = served_planner(plans, shapes, config.serve_on)
    return Findings(
        tuple(lines),
        tuple(shares),
        tuple(warnings),
        evaluation_lines(costs),
        tuple(fingerprints.values()),
        plans,
        {name: tuple(some) for name, some in amounts.items()},
        limits_of(config, plans),
    )


def every_trial(config: SweepConfig) -> Iterator[TrialConfig]:
    """The base, the baselines, and every corner of the space."""
    return (trial for _, _, trial in _named(config))


def _named(config: SweepConfig) -> Iterator[tuple[str, str, TrialConfig]]:
    """The same, each with what it is called, the base and the corners BASE, a baseline by its label or method; and with
    where it comes from, for a message ("" for the base)."""
    yield BASE, "", config.trial
    for i, (label, trial) in enumerate(zip(config.baseline_labels(), config.baseline_trials(), strict=True)):
        yield label or trial.method, f"baselines[{i}]" + (f" ({label})" if label else ""), trial
    for values in corners(config.space):
        shown = ", ".join(f"{path}={value}" for path, value in values.items())
        yield BASE, f"space at {shown}", trial_with(config.trial, values)


def _distinct(config: SweepConfig) -> Iterator[tuple[str, str, TrialConfig]]:
    """The base, every corner of the space, and the baselines of every name, one for each different model, data,
    targets, length and method; as `_named`."""
    seen = set()
    for name, where, trial in _named(config):
        fields = [trial.model, trial.data, trial.training, trial.evaluation]
        adapter = trial.adapter and trial.adapter.model_dump(include=PLACES)
        own = lookup("method", trial.method).section
        settings = None if own is None else getattr(trial, own).model_dump()
        identity = json.dumps(
            [
                *(field.model_dump() for field in fields),
                trial.head_modules,
                adapter,
                own,
                settings,
                size_settings(trial),
                name,
                where == "",
            ]
        )
        if identity not in seen:
            seen.add(identity)
            yield name, where, trial


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What settings get wrong is told with where they are from."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}" if where else str(error)) from error


def _load(trial: TrialConfig, labels: tuple[str, ...] | None) -> _Loaded:
    """Examples, task, and the model without its weights; every example is tokenised, into the files that the trials of
    this node open."""
    splits, task = load_task(trial, labels)
    features = tokenised(task, splits)
    tokens = token_facts(features.values())
    facts = DataFacts(len(splits.validation), float(features["train"].lengths.mean()))
    skeleton = load_skeleton(trial, splits, task)
    check_tokens(trial, skeleton.model, tokens)
    return _Loaded(splits, task, skeleton, tokens, facts, features["train"], missing_of(trial, task))


def _check_packages(model: ModelConfig) -> None:
    if model.quantization is not None and find_spec("bitsandbytes") is None:
        raise PreflightError(
            f"model.quantization {model.quantization!r} needs the package bitsandbytes: "
            "pip install 'prunedlora[cuda]' on every node"
        )
    if not model.needs_half_precision:
        return
    attention = f"model.attn_implementation {model.attn_implementation!r}"
    if model.attn_implementation not in FLASH_PACKAGES:
        raise PreflightError(f"{attention} is not known; known: {', '.join(FLASH_PACKAGES)}")
    package = FLASH_PACKAGES[model.attn_implementation]
    if find_spec(package) is None and find_spec("kernels") is None:
        raise PreflightError(f"{attention} needs the package {package}, or kernels, on every node")


def _method(trial: TrialConfig, steps: int, where: str) -> Method:
    try:
        return build_method(trial, steps)
    except ValueError as error:
        raise PreflightError(f"{where}: {error}" if where else str(error)) from error


def _check_sizes(trial: TrialConfig, splits: Splits, num_workers: int) -> None:
    smallest = {"training.batch_size": trial.training.batch_size}
    smallest |= {f"the number of {split} examples": len(getattr(splits, split)) for split in ("validation", "test")}
    for what, size in smallest.items():
        if size < num_workers:
            raise PreflightError(f"{what} {size} is below resources.num_workers {num_workers}: each needs an example")
    most, num_validation = trial.evaluation.max_examples, len(splits.validation)
    if most is not None and most < num_workers:
        raise PreflightError(
            f"evaluation.max_examples {most} is below resources.num_workers {num_workers}: each needs an example"
        )
    cuts = trial.free_cuts
    if cuts is not None and cuts.screen_examples is not None and cuts.screen_examples < num_workers:
        raise PreflightError(
            f"cuts.screen_examples {cuts.screen_examples} is below resources.num_workers {num_workers}: each needs an "
            "example"
        )
    if most is not None and most > num_validation:
        raise PreflightError(f"evaluation.max_examples {most} is above the {num_validation} validation examples")


def _check_looks(stopping: StoppingConfig, trial: TrialConfig, num_validation: int, num_workers: int) -> None:
    available = min(num_validation, trial.evaluation.max_examples or num_validation)
    asked = stopping.asked_examples
    if asked is not None and asked > available:
        raise PreflightError(
            f"stopping.examples {asked} is above the {available} validation examples that candidates are evaluated on; "
            "give no more, or null for all"
        )
    if asked is not None and asked < num_workers:
        raise PreflightError(
            f"stopping.examples {asked} is below resources.num_workers {num_workers}: each needs an example"
        )


def _check_look_steps(stopping: StoppingConfig, num_steps: int) -> None:
    """Of a training that has steps: each look falls on one before its last."""
    for share in stopping.looks if num_steps else ():
        if not 0 < round(share * num_steps) < num_steps:
            raise PreflightError(
                f"stopping.looks {share:g} of {num_steps} steps is no step on the way; take shares that are nearest to "
                f"steps 1 to {num_steps - 1}"
                if num_steps > 1
                else f"stopping.looks {share:g}: a training of one step has none on the way; take more steps, or set "
                "stopping to null"
            )


def _check_head(trial: TrialConfig, task: Task, model: PreTrainedModel, heads: Sequence[str]) -> None:
    """A classification head for these labels is new: it must train, or it would be random and not exported."""
    prefix = model.base_model_prefix
    outside = [
        name for name, child in model.named_children() if name != prefix and any(True for _ in child.parameters())
    ]
    missing = [name for name in outside if not any(head == name or head.startswith(f"{name}.") for head in heads)]
    if task.labels is not None and missing:
        raise PreflightError(
            f"the head of {type(model).__name__} is new and must train: add {missing[0]!r} to adapter.head_modules "
            f"({trial.head_modules}) and give optimizer.head_learning_rate"
        )
