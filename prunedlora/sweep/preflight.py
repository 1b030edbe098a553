"""What can be found out about a sweep before anything starts: that its models and data are there and fit together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.adapters.size import has_stacked_layers
from prunedlora.adapters.targets import resolve_head
from prunedlora.config.identity import trial_key
from prunedlora.config.pins import pinned
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.methods.method import Method
from prunedlora.pruning.target import Start
from prunedlora.servers.adapter_shape import AdapterShape
from prunedlora.settings_error import SettingsError
from prunedlora.sweep.evaluation_cost import (
    DataFacts,
    EvaluationCost,
    cost_of,
    evaluation_lines,
    generation_warning,
)
from prunedlora.sweep.every_trial import BASE, distinct_trials
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
from prunedlora.sweep.setting_checks import (
    PreflightError,
    check_head,
    check_look_steps,
    check_looks,
    check_numbers,
    check_packages,
)
from prunedlora.sweep.size_checks import check_sizes, size_settings
from prunedlora.sweep.tiny_batch import is_small, try_batch
from prunedlora.sweep.training_amount import TrainingAmount, amount_of
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Features, Task
from prunedlora.trial.assemble import build_method, num_steps
from prunedlora.trial.assets import Skeleton, load_skeleton, load_task
from prunedlora.trial.planned_sizes import data_key, layers_key, placement, planner
from prunedlora.trial.start import labels_of, share_of, start_of
from prunedlora.trial.token_cache import tokenised
from prunedlora.trial.trial_harness import load_harness


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
    for name, where, written in distinct_trials(config):
        trial_key(written)
        trial = pinned(written, commits)
        check_packages(trial.model)
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
        check_head(trial, task, model, heads)
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
        check_numbers(trial, splits, config.resources.num_workers)
        if config.stopping is not None:
            check_looks(config.stopping, trial, len(splits.validation), config.resources.num_workers)
            if name == BASE and config.num_trials > 0 and (where or not config.space):
                with _told(where):
                    check_look_steps(config.stopping, steps)
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


def _method(trial: TrialConfig, steps: int, where: str) -> Method:
    try:
        return build_method(trial, steps)
    except ValueError as error:
        raise PreflightError(f"{where}: {error}" if where else str(error)) from error
