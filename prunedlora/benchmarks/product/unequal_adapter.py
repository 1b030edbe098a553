"""An adapter made up so that servers differ on it: unequal ranks, layers absent; and what PEFT answers with it."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunedlora.adapters.attach import AdapterSettings, attach, detach, load
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import shrink

RANKS = (16, 8, 4, 2, 1)
TARGETS = ("q_proj", "v_proj", "o_proj", "down_proj")
SEED = 0
B_SCALE = 0.2
"""Standard deviation of B."""

Prompts = Mapping[str, Sequence[int]]
"""Name → ids of its tokens."""
Answers = dict[str, NDArray[np.float64]]
"""Name of the prompt → log probabilities (vocabulary,) of the token after it."""


def write_unequal(model: Any, folder: Path) -> dict[str, int]:
    """Ranks RANKS in turn on TARGETS, but for v of the first block and down of the last, which are absent; ranks by
    layer. The model is left as it was."""
    adapted = attach(model, AdapterSettings(max(RANKS), max(RANKS), False, 0.0, TARGETS, []), "default", SEED)
    generator, last = torch.Generator().manual_seed(SEED), model.config.num_hidden_layers - 1
    absent = {"model.layers.0.self_attn.v_proj", f"model.layers.{last}.mlp.down_proj"}
    layers = adapted_layers(adapted, "default")
    with torch.no_grad():
        for layer, rank in zip(layers, cycle(RANKS)):
            layer.B.copy_(B_SCALE * torch.randn(layer.B.shape, generator=generator))
            shrink(layer, torch.arange(0 if layer.name in absent else rank), None)
    ranks = {layer.name: layer.rank for layer in layers if layer.rank}
    export(adapted, "default", folder, "base")
    detach(adapted)
    return ranks


def answers_of(model: Any, prompts: Prompts) -> Answers:
    """Of the model as it is."""
    with torch.no_grad():
        logits = {name: model(torch.tensor([list(ids)])).logits[0, -1].double() for name, ids in prompts.items()}
    return {name: torch.log_softmax(row, -1).numpy() for name, row in logits.items()}


def answers_with(model: Any, folder: Path, factors: Mapping[str, float], prompts: Prompts) -> Answers:
    """By PEFT, with the update of each layer times its factor."""
    adapted = load(model, folder, "default")
    with torch.no_grad():
        for layer in adapted_layers(adapted, "default"):
            layer.B.mul_(factors[layer.name])
    found = answers_of(adapted, prompts)
    detach(adapted)
    return found


def compared(
    plain: NDArray[np.float64],
    trained: NDArray[np.float64],
    its_plain: NDArray[np.float64],
    its: NDArray[np.float64],
) -> dict[str, float]:
    """A server's change (`its` from `its_plain`) against PEFT's (`trained` from `plain`), all (vocabulary,): `change`,
    the latter's root mean square; `apart`, of their difference, as a share of it; `correlation`."""
    expected, found = trained - plain, its - its_plain
    return {
        "change": float(np.sqrt(np.mean(expected**2))),
        "apart": float(np.linalg.norm(found - expected) / np.linalg.norm(expected)),
        "correlation": float(np.corrcoef(found, expected)[0, 1]),
    }
