"""How long a pruning event takes: ours, batched over layers, against a plain implementation of the public algorithm.

The public algorithm, from its description (methods.md 1.3, 1.7): per layer and event two pseudo-inverses, one number
read back per component, the lowest single scores without downdates, columns masked instead of removed.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.layers import AdaptedLayer, Side, adapted_layers
from prunedlora.benchmarks.product.timing import seconds_of
from prunedlora.pruning.criteria import Evidence, single_scores
from prunedlora.pruning.gram import gram_of_weights, stack
from prunedlora.pruning.pruner import Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.pruning.recovery import damp, inverse_of

DAMPING = 1e-2
NUM_REMOVED = 2
"""Components that each layer loses in an event, as in the public code."""

SETTINGS = PruningSettings(
    basis="raw",
    criterion="gradient",
    curvature="batch",
    ema_decay=0.95,
    damping=DAMPING,
    recovery_strength=1.0,
    recovery_side="both",
    gradient_cap=None,
    moments=None,
    target_sparsity=None,
    target_rank=1,
    schedule="one_shot",
    begin=0.0,
    end=None,
    every_steps=1,
    allocation="uniform",
    min_rank=1,
    round_to=None,
    rate_growth=0.0,
)


def event_speed(*, num_layers: int, rank: int, width: int, num_events: int, device: torch.device) -> dict[str, Any]:
    """Median seconds of an event on `num_layers` square layers, ours and plain by turns, and the largest relative
    difference of their scores. Gradients are random: an event's course does not depend on them."""
    seconds: dict[str, list[float]] = {"plain": [], "both": [], "B": []}
    for event in range(num_events):
        now = rank - NUM_REMOVED * event  # each event finds fresh layers of the rank that the ones before left

        def fresh(now: int = now) -> list[AdaptedLayer]:
            return _layers(num_layers, now, width, device)

        for side in ("both", "B"):
            pruner = Pruner(replace(SETTINGS, recovery_side=side, target_rank=now - NUM_REMOVED), fresh())

            def ours(pruner: Pruner = pruner) -> None:
                pruner.observe()  # the public code computes the curvature in its event too
                pruner.step(1, 1.0, None)

            seconds[side].append(seconds_of(ours))
        layers = fresh()

        def plain(layers: Sequence[AdaptedLayer] = layers) -> None:
            for layer in layers:
                _plain_event(layer)

        seconds["plain"].append(seconds_of(plain))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "speedup": medians["plain"] / medians["both"],
        "speedup_one_side": medians["plain"] / medians["B"],
        "event_seconds": medians,
        "max_relative_score_difference": _score_difference(_layers(num_layers, rank, width, device)),
        "num_layers": num_layers,
        "rank": rank,
        "width": width,
        "num_events": num_events,
        "num_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _layers(num_layers: int, rank: int, width: int, device: torch.device) -> list[AdaptedLayer]:
    """Adapted layers with trained-looking factors and gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(num_layers))).to(device)
        model = attach(base, AdapterSettings(rank, float(rank), False, 0.0, "all-linear", []), "default", 0)
        layers = adapted_layers(model, "default")
        for layer in layers:
            layer.B.data.copy_(0.02 * torch.randn(layer.B.shape))
            for factor in (layer.A, layer.B):
                factor.grad = 1e-3 * torch.randn(factor.shape, device=device)
    return layers


def _curvature(gradient: Tensor) -> Tensor:
    """GᵀG / rows, damped; what BatchCurvature gives for one step."""
    H = gradient.mT @ gradient / gradient.shape[0]
    return H + DAMPING * H.trace() / len(H) * torch.eye(len(H), device=H.device)


@torch.no_grad()
def _plain_scores(layer: AdaptedLayer) -> tuple[list[float], Tensor, Tensor]:
    """Score of every component, read back one by one, and the two pseudo-inverses."""
    assert layer.A.grad is not None
    assert layer.B.grad is not None
    P_A = torch.linalg.pinv(_curvature(layer.A.grad.mT))
    P_B = torch.linalg.pinv(_curvature(layer.B.grad))
    scores = []
    for j in range(layer.rank):
        score = 0.5 * layer.A[j].square().sum() / P_A[j, j] + 0.5 * layer.B[:, j].square().sum() / P_B[j, j]
        scores.append(score.item())
    return scores, P_A, P_B


@torch.no_grad()
def _plain_event(layer: AdaptedLayer) -> None:
    scores, P_A, P_B = _plain_scores(layer)
    lowest = sorted(range(layer.rank), key=scores.__getitem__)[:NUM_REMOVED]
    for W, P in ((layer.A.data.mT, P_A), (layer.B.data, P_B)):
        W -= W[:, lowest] @ torch.linalg.inv(P[lowest][:, lowest]) @ P[lowest]
        W[:, lowest] = 0.0


def _score_difference(layers: Sequence[AdaptedLayer]) -> float:
    """Largest relative difference between the plain scores and ours."""
    rank = layers[0].rank
    alive = torch.ones(len(layers), rank, dtype=torch.bool, device=layers[0].B.device)
    sides: tuple[Side, ...] = ("A", "B")
    gram, inverse = {}, {}
    for side in sides:
        weights = [layer.B.detach() if side == "B" else layer.A.detach().mT for layer in layers]
        gradients = [_gradient(layer, side) for layer in layers]
        gram[side] = gram_of_weights(weights, rank, NUM_REMOVED)
        inverse[side] = inverse_of(damp(stack([G.mT @ G / G.shape[0] for G in gradients], rank), alive, DAMPING)[0])
    ours = single_scores(Evidence(alive, gram, inverse, {}, 0))
    plain = torch.tensor([_plain_scores(layer)[0] for layer in layers], dtype=torch.float64, device=ours.device)
    return float(((ours - plain).abs() / plain.abs()).max())


def _gradient(layer: AdaptedLayer, side: Side) -> Tensor:
    gradient = layer.B.grad if side == "B" else layer.A.grad
    assert gradient is not None
    return gradient if side == "B" else gradient.mT
