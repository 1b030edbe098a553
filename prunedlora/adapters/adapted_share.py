"""What part of a base model an adapter goes to, and what is left out for which reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from prunedlora.adapters.reach import Reach
from prunedlora.adapters.targets import adaptable, stacked_weights
from prunedlora.servers.layer_types import layer_type


@dataclass(frozen=True)
class AdaptedShare:
    """Layers and numbers, as they are recorded; results/share_text.py puts them into words."""

    num_layers: int
    """Linear layers that are adapted."""
    num_linear: int
    """Linear layers outside of the head; the output embedding only where it is adapted."""
    layer_params: int
    """Numbers in the weights of the adapted layers."""
    base_params: int
    """Numbers in all parameters of the base model."""
    unreached: dict[str, int]
    """Outermost module without a reached linear layer, its numbers as stars → its linear layers."""
    stacked: dict[str, int]
    """Parameter that holds several layers' weights (experts), its numbers as stars → numbers in all of them."""
    problem: str | None
    """Why it is not known what the task reaches."""


def adapted_share(model: nn.Module, heads: Sequence[str], targets: Sequence[str], reach: Reach) -> AdaptedShare:
    """The share of `model` (it may be on the meta device, and must not be quantised) that `targets` are.

    `targets`, `heads`: full names, as resolve_targets and resolve_head give them.
    """
    modules = dict(model.named_modules())
    linear = {*adaptable(model, heads), *targets}
    unreached = [name for name in modules if name in linear and reach.modules is not None and name not in reach.modules]
    used = linear.difference(unreached)
    stacked: Counter[str] = Counter()
    for name, size in stacked_weights(model).items():
        stacked[layer_type(name)] += size
    return AdaptedShare(
        num_layers=len(targets),
        num_linear=len(linear),
        layer_params=sum(modules[name].weight.numel() for name in targets),
        base_params=sum(parameter.numel() for parameter in model.parameters()),
        unreached=dict(Counter(layer_type(_outermost(name, used)) for name in unreached)),
        stacked=dict(stacked),
        problem=reach.problem,
    )


def _outermost(name: str, used: set[str]) -> str:
    """The outermost module around `name`, itself included, in which no module of `used` lies."""
    parts = name.split(".")
    around = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return next(outer for outer in around if not any(f"{other}.".startswith(f"{outer}.") for other in used))
