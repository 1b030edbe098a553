"""How well a criterion's scores order what removing single components truly costs, by brute force.

A component goes alone, in two ways: as it is (`plain`), and with what the survivors of its layer take over at full
strength (`recovered`), which is what criteria that model the loss score. Both are measured on the very batches that the
statistics were averaged over, the loss that the scores are an estimate of; held-out examples add their own noise, and
their loss falls where the adapter has overfitted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import scipy.stats
import torch
from torch import Tensor

from prunedlora.adapters.layers import AdaptedLayer, Side
from prunedlora.adapters.shrink import set_factors
from prunedlora.pruning.averages import CURVATURE
from prunedlora.pruning.criteria import Criterion, Elimination
from prunedlora.pruning.event import gather, remove
from prunedlora.pruning.live import LiveLayer
from prunedlora.pruning.pruner import Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.registry import lookup

Loss = Callable[[], float]
"""Of the model as it stands."""


def rank_correlations(
    settings: Mapping[str, PruningSettings],
    states: Mapping[str, Mapping[str, Tensor]],
    layers: Sequence[AdaptedLayer],
    chosen: Sequence[AdaptedLayer],
    loss: Loss,
    seed: int,
) -> dict[str, dict[str, float]]:
    """`<criterion>/<options>` → {"plain": Spearman correlation, "recovered": the same, of those that model the loss}.

    `settings` and `states` (of a pruner that has observed) by variant; variants that differ in strength alone are one,
    and those in another basis have no components to score. `chosen`: the layers whose components go one by one.
    """
    before = loss()
    plain = [cost for layer in chosen for cost in plain_costs(layer, loss, before)]
    found: dict[str, dict[str, float]] = {}
    for name, one in settings.items():
        if one.criterion is None or (scored := _scored_as(name, one)) in found:
            continue
        pruner = Pruner(one, layers, seed=seed)
        pruner.load_state_dict(states[name])
        scores = pruner.scores(step=1)
        pruner.close()
        scored_values = torch.cat([scores[layer.name] for layer in chosen]).tolist()
        found[scored] = {"plain": _spearman(scored_values, plain)}
        if lookup("criterion", one.criterion).models_loss:
            recovered = [cost for layer in chosen for cost in recovered_costs(layer, one, states[name], loss, before)]
            found[scored]["recovered"] = _spearman(scored_values, recovered)
    return found


def _scored_as(name: str, settings: PruningSettings) -> str:
    """The variant's name without the strength, which scores do not depend on."""
    assert settings.criterion is not None
    return name.rsplit(" ", 1)[0] if lookup("criterion", settings.criterion).models_loss else name.split("/")[0]


def _spearman(scores: Sequence[float], costs: Sequence[float]) -> float:
    return float(scipy.stats.spearmanr(scores, costs).statistic)


def plain_costs(layer: AdaptedLayer, loss: Loss, before: float) -> list[float]:
    costs = []
    for j in range(layer.rank):
        column = layer.B.data[:, j].clone()
        layer.B.data[:, j] = 0.0
        costs.append(loss() - before)
        layer.B.data[:, j] = column
    return costs


def recovered_costs(
    layer: AdaptedLayer,
    settings: PruningSettings,
    state: Mapping[str, Tensor],
    loss: Loss,
    before: float,
) -> list[float]:
    live = LiveLayer(layer, hold=False)
    curvatures = _curvatures(layer, settings, state)
    costs = []
    for j in range(layer.rank):
        criterion = Criterion(_no_scores, _always(j), models_loss=True)
        with restored([layer]):
            known = gather([live], criterion, curvatures, {}, damping=settings.damping, num=1, seed=0)
            remove([live], criterion, known, lambda _, ranks: torch.ones_like(ranks), 1, recovery_strength=1.0)
            layer.B.data[:, j] = 0.0
            costs.append(loss() - before)
    return costs


def _curvatures(
    layer: AdaptedLayer, settings: PruningSettings, state: Mapping[str, Tensor]
) -> dict[Side, Sequence[Tensor]]:
    """The averages of the sides that are scored, without the bias of their start at zero."""
    assert settings.criterion is not None
    assert settings.ema_decay is not None
    bias = 1 - settings.ema_decay ** int(state["num_observed"])
    own = lookup("criterion", settings.criterion).own_curvature
    sides: dict[Side, str] = {"A": f"{CURVATURE}A", "B": f"{CURVATURE}B" if own is None else own}
    found = {side: state.get(f"average.{statistic}.{layer.name}") for side, statistic in sides.items()}
    return {side: [average / bias] for side, average in found.items() if average is not None}


def _always(j: int) -> Callable[[object, int], Elimination]:
    return lambda _, num: Elimination(torch.full((1, num), j), torch.zeros(1, num, dtype=torch.float64))


def _no_scores(_: object) -> Tensor:
    raise AssertionError("what goes is given")


@contextmanager
def restored(layers: Sequence[AdaptedLayer]) -> Iterator[None]:
    """Factors and ranks are afterwards what they were before."""
    kept = [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]
    try:
        yield
    finally:
        for layer, (A, B) in zip(layers, kept, strict=True):
            set_factors(layer, A, B, None)
