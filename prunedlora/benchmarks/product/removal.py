"""What removing components costs right away, by criterion, recovery and basis, on an adapter that was really trained.

Per seed: LoRA is trained, statistics are averaged over further batches at fixed weights, then a share of the components
of every layer is removed at once, nothing is trained after, and the rise of the held-out loss is measured. Beside it,
the rank correlation of each criterion's scores with what removing single components truly costs (single_removals.py).
"""

import fnmatch
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from prunedlora.adapters.layers import AdaptedLayer, adapted_layers
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.benchmarks.product.single_removals import rank_correlations, restored
from prunedlora.benchmarks.product.timing import seconds_of
from prunedlora.config.methods import PruningConfig, section_fields
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.pruning.pruner import Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.registry import lookup, names
from prunedlora.tasks.outcomes import figures
from prunedlora.tasks.task import Features
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import autocast, evaluate
from prunedlora.training.model import draw_new_parameters
from prunedlora.training.train_alone import train_alone
from prunedlora.training.trial import Trial
from prunedlora.trial.assemble import build_method, build_trial
from prunedlora.trial.assets import Assets, load_assets
from prunedlora.trial.candidates import ADAPTER

LEVELS = (0.25, 0.5, 0.75, 0.875)
"""Shares of the components that are removed."""
STRENGTHS = (0.0, 0.5, 1.0)


class UnscaledLossError(ValueError):
    """A model in float16, in which the gradients of a loss that is not scaled are lost."""


class NoVariantError(ValueError):
    """A pattern that fits no variant; the message lists them."""


def variants() -> dict[str, PruningSettings]:
    """`<criterion>/<options>` → settings of one removal at once; the level is put in later."""
    choices: dict[str, dict[str, Any]] = {}
    for name in names("criterion"):
        criterion = lookup("criterion", name)
        if not criterion.models_loss:
            choices[f"{name}/no recovery"] = {"criterion": name}
        elif criterion.own_curvature is not None:
            for strength in STRENGTHS:
                choices[f"{name}/B {strength:g}"] = {"criterion": name, "recovery_strength": strength}
        else:
            for curvature in names("curvature"):
                for side in ("A", "B", "both"):
                    for strength in STRENGTHS:
                        choices[f"{name}/{curvature} {side} {strength:g}"] = {
                            "criterion": name,
                            "curvature": curvature,
                            "recovery_side": side,
                            "recovery_strength": strength,
                        }
    choices |= {f"{basis}/": {"basis": basis} for basis in ("svd", "whitened")}
    choices |= {f"{basis}/global": {"basis": basis, "allocation": "global"} for basis in ("svd", "whitened")}
    schedule = {"name": "one_shot", "begin": 0.0, "every_steps": 1}
    return {
        name: PruningSettings(**section_fields(PruningConfig(target_sparsity=0.5, schedule=schedule, **choice)))
        for name, choice in choices.items()
    }


def _matching(patterns: Sequence[str]) -> dict[str, PruningSettings]:
    settings = variants()
    for pattern in patterns:
        if not fnmatch.filter(settings, pattern):
            raise NoVariantError(f"--only {pattern!r} fits none of: {', '.join(settings)}")
    return {name: one for name, one in settings.items() if any(fnmatch.fnmatch(name, p) for p in patterns)}


def removal_costs(
    base: TrialConfig,
    *,
    rank: int,
    num_steps: int,
    num_seeds: int,
    num_batches: int,
    num_single_layers: int,
    only: Sequence[str],
    device: torch.device,
    console: Console,
) -> dict[str, Any]:
    """Rise of the held-out loss per variant and level, mean and standard error over seeds; Spearman; median seconds of
    the removals.

    `num_batches`: batches that statistics are averaged over. `num_single_layers`: layers of which every component is
    removed by itself, for the correlations; 0 leaves them out. `only`: patterns (fnmatch) of the variants' names.

    Raises NoVariantError for a pattern that fits none, UnscaledLossError for a model in float16.
    """
    settings = _matching(only)
    if base.model.dtype == "float16":
        raise UnscaledLossError(
            "model.dtype 'float16': statistics are collected here without loss scaling; set float32 or bfloat16"
        )
    no_answers = {"evaluation.max_new_tokens": None, "evaluation.stop": None}
    base = trial_with(base, {"evaluation.metric": "loss", **no_answers})
    assets = load_assets(base, device)
    rises: dict[str, dict[str, list[float]]] = {name: {f"{level:g}": [] for level in LEVELS} for name in settings}
    correlations: dict[str, dict[str, list[float]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    losses = []
    for seed in range(num_seeds):
        live, detach = _trained(base, assets, rank, num_steps, seed, device)
        try:
            layers = adapted_layers(live.model, ADAPTER)
            states = _collect(live, settings, layers, num_batches, device)
            before = _held_out_loss(live, base, assets)
            losses.append(before)
            console.print(f"seed {seed}: held-out loss {before:.4f} after {num_steps} steps")
            for name, one in settings.items():
                for level in LEVELS:
                    with restored(layers):
                        pruner = Pruner(replace(one, target_sparsity=level), layers, seed=seed)
                        pruner.load_state_dict(states[name])
                        seconds[name].append(seconds_of(partial(pruner.step, 1, 1.0, None)))
                        pruner.close()
                        rises[name][f"{level:g}"].append(_held_out_loss(live, base, assets) - before)
                console.print(f"  {name}: " + ", ".join(f"{rises[name][f'{level:g}'][-1]:+.4f}" for level in LEVELS))
            if num_single_layers:
                chosen = layers[:: max(1, len(layers) // num_single_layers)][:num_single_layers]
                batches = [feature for batch in _batches(live, num_batches) for micro in batch for feature in micro]
                loss = partial(_loss, live, base, assets, batches)
                for name, found in rank_correlations(settings, states, layers, chosen, loss, seed).items():
                    console.print(f"  {name}: " + ", ".join(f"{way} {value:+.3f}" for way, value in found.items()))
                    for way, value in found.items():
                        correlations.setdefault(name, {}).setdefault(way, []).append(value)
        finally:
            detach()
    return {
        **{name: {level: over_seeds(values)[:2] for level, values in levels.items()} for name, levels in rises.items()},
        "spearman": {
            name: {way: over_seeds(values)[:2] for way, values in ways.items()} for name, ways in correlations.items()
        },
        "event_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "trained_loss": losses,
        "num_seeds": num_seeds,
        "rank": rank,
        "num_steps": num_steps,
        "num_layers": len(layers),
    }


def _trained(
    base: TrialConfig, assets: Assets, rank: int, num_steps: int, seed: int, device: torch.device
) -> tuple[Trial, Any]:
    """A LoRA adapter after its training, and what takes it off the base again."""
    config = trial_with(
        base,
        {
            "adapter.method": "lora",
            "adapter.initial_rank": rank,
            "pruning": None,
            "training.num_epochs": None,
            "training.num_steps": num_steps,
            "seed": seed,
        },
    )
    workers = Workers(0, 1, device)
    method = build_method(config, num_steps, assets.skeleton.reach.modules)
    model = method.attach(assets.base.model, ADAPTER)
    draw_new_parameters(model, assets.base, seed)
    live = build_trial(config, assets, model, method, workers)
    train_alone(live, workers)
    return live, lambda: method.detach(model)


def _collect(
    live: Trial,
    settings: Mapping[str, PruningSettings],
    layers: Sequence[AdaptedLayer],
    num_batches: int,
    device: torch.device,
) -> dict[str, dict[str, Tensor]]:
    """States of a pruner per variant after `num_batches` batches at fixed weights; all watch the same passes, one
    pruner for all variants that collect the same."""
    collected = {name: (one.basis, one.criterion, one.curvature, one.recovery_side) for name, one in settings.items()}
    pruners = {key: Pruner(settings[name], layers) for name, key in collected.items()}
    parameters = [parameter for group in live.optimizer.param_groups for parameter in group["params"]]
    live.model.train()
    for micro_batches in _batches(live, num_batches):
        num_targets = 0
        for features in micro_batches:
            batch = {name: tensor.to(device) for name, tensor in live.task.collate(features).items()}
            with autocast(device, live.dtype):
                loss, targets = live.task.loss(live.model, batch)
            loss.backward()
            num_targets += int(targets)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= num_targets
        for pruner in pruners.values():
            pruner.observe()
        live.optimizer.zero_grad(set_to_none=True)
    states = {name: pruners[key].state_dict() for name, key in collected.items()}
    for pruner in pruners.values():
        pruner.close()
    return states


def _batches(live: Trial, num_batches: int) -> list[list[list[Features]]]:
    """The batches that would come next in training, each in forward passes."""
    return [list(live.order.micro_batches(live.step + index, 0, 1)) for index in range(num_batches)]


def _held_out_loss(live: Trial, base: TrialConfig, assets: Assets) -> float:
    return _loss(live, base, assets, assets.validation[: base.evaluation.max_examples])


def _loss(live: Trial, base: TrialConfig, assets: Assets, features: Sequence[Features]) -> float:
    """Per target."""
    with torch.no_grad():
        outcomes = evaluate(
            live.model.eval(),
            assets.task,
            features,
            batch_size=base.evaluation.batch_size,
            dtype=live.dtype,
            workers=Workers(0, 1, next(live.model.parameters()).device),
        )
    return figures(outcomes)["loss"].value
