"""Ladders, and trainings of the small network down one as the loop takes them, for the laws of ladders."""

from dataclasses import replace
from typing import Any

from prunedlora.adapters.shrink import set_factors
from prunedlora.pruning.ladder import Ladder
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from tests.pruning.factors import factors
from tests.pruning.variants import NUM_STEPS

ONE_SHOT = Ladder(
    unit="mean_rank",
    sizes=(4, 2, 1),
    trunk=0.4,
    shares=None,
    removal="one_shot",
    removal_end=None,
    every_steps=None,
    rate="continue",
    rung_rate=None,
    warmup=None,
    branch=None,
    optimizer_state="kept",
)
"""Rungs begin after steps 8, 12 and 16 of 20."""
EVENTS = replace(ONE_SHOT, removal="linear", removal_end=0.75, every_steps=2)
"""Events on multiples of 2, the last after 3 steps of each rung's 4."""
BRANCHES = replace(ONE_SHOT, rate="branch", branch=0.25)
"""Branches of 2, 1, 1 and 1 steps."""
LADDERS = {"one_shot": ONE_SHOT, "events": EVENTS, "branches": BRANCHES}
NO_SCHEDULE = dict.fromkeys(("target_sparsity", "target_rank", "schedule", "begin", "end", "every_steps"))


def on_ladder(settings: PruningSettings, ladder: Ladder, **overrides: Any) -> PruningSettings:
    """The settings with the ladder in the place of their schedule."""
    return replace(settings, ladder=ladder, **NO_SCHEDULE | overrides)


def snapshot(layers: Any, optimizer: Any, pruner: Pruner) -> tuple[Any, Any, Any]:
    """What a checkpoint holds."""
    moments = {
        i: {k: v.clone() if hasattr(v, "clone") else v for k, v in state.items()}
        for i, state in optimizer.state_dict()["state"].items()
    }
    return factors(layers), moments, {name: tensor.clone() for name, tensor in pruner.state_dict().items()}


def restore(saved: tuple[Any, Any, Any], layers: Any, optimizer: Any, pruner: Pruner) -> None:
    """Goes on from a checkpoint."""
    values, moments, state = saved
    for layer, (A, B) in zip(layers, values, strict=True):
        set_factors(layer, A, B, optimizer)
    copies = {i: {k: v.clone() if hasattr(v, "clone") else v for k, v in kept.items()} for i, kept in moments.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": copies})
    pruner.load_state_dict({name: tensor.clone() for name, tensor in state.items()})


def go(
    train_step: Any,
    model: Any,
    layers: Any,
    pruner: Pruner,
    optimizer: Any,
    first: int = 1,
    last: int = NUM_STEPS,
    keep: dict[Any, Any] | None = None,
) -> list[Event]:
    """Steps `first` to `last`; rungs begin after the candidates of the ones before, branches are thrown away.

    `keep` gets a checkpoint of every step of the line, and of every border after its removal (step, "begun"). A
    training that is resumed on a border begins with `first` one further: its rung is begun again.
    """
    events = []
    line = None
    is_new = pruner.settings.ladder.optimizer_state == "new"

    def begin(step: int) -> None:
        event = pruner.begin_rung(step, optimizer)
        events.append(event)
        assert pruner.begin_rung(step, optimizer) is None
        if is_new and any(rung.begin == step for rung in pruner.rungs[1:]):
            optimizer.state.clear()

    begin(first - 1)
    if line_rung := next((r for r in pruner.rungs if r.branch_steps and r.branch == first - 1), None):
        line = snapshot(layers, optimizer, pruner), line_rung
    for step in range(first, last + 1):
        in_branch = line is not None
        events.append(train_step(model, pruner, optimizer, step))
        if keep is not None and not in_branch:
            keep[step] = snapshot(layers, optimizer, pruner)
        if line is not None and line[1].end == step:
            restore(line[0], layers, optimizer, pruner)
            line = None
        if rung := next((r for r in pruner.rungs if r.branch_steps and r.branch == step), None):
            line = snapshot(layers, optimizer, pruner), rung
        if any(rung.begin == step for rung in pruner.rungs[1:]):
            begin(step)
            if keep is not None:
                keep[step, "begun"] = snapshot(layers, optimizer, pruner)
    return [event for event in events if event is not None]
