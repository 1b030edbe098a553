"""What llama.cpp makes of one adapter of unequal ranks, in each of its forms: the change of the next token's log
probabilities, against PEFT's of the adapter as it was trained, and of the update that the rule says is applied.

The forms: the trained folder and the uniform one as llama.cpp's own converter turns them into GGUF (`lora_alpha` in the
file), and ours (alpha 0). https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py
"""

import shutil
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from prunedlora.adapters.attach import AdapterSettings, attach, detach, load
from prunedlora.adapters.export import export
from prunedlora.adapters.gguf_adapter import write_gguf
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.repack import make_uniform
from prunedlora.adapters.shrink import shrink
from prunedlora.adapters.size import served_layers
from prunedlora.benchmarks.product.llama_cpp_server import LlamaCppServer
from prunedlora.servers import llama_cpp
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Applied

RANKS = (16, 8, 4, 2, 1)
TARGETS = ("q_proj", "v_proj", "o_proj", "down_proj")
SEED = 0
B_SCALE = 0.2
"""Standard deviation of B."""


def measure(model: Any, base: Path, prompts: Mapping[str, Sequence[int]], scratch: Path) -> dict[str, Any]:
    """Figures by form and prompt; `base` is the GGUF file of `model`, both in float32. Root mean squares over the
    vocabulary: `change`, by PEFT, from base to adapter; `apart`, of that and llama.cpp's change, as a share of it;
    `apart_from_rule`, of the change by the update that the rule says and llama.cpp's, as a share of the former.

    Writes adapters into the folder `scratch`; the model is left as it was.
    """
    ranks = _write_adapter(model, scratch / "trained")
    widths = served_layers(model)
    assert widths is not None
    shape = AdapterShape(Kind.TRAINED, ranks, widths.linear)
    uniform = shape.uniform()
    assert uniform is not None
    shutil.copytree(scratch / "trained", scratch / "uniform")
    make_uniform(scratch / "uniform", shape.rank, widths.linear)
    shapes = {Kind.TRAINED: shape, Kind.UNIFORM: uniform, Kind.GGUF: shape.of_kind(Kind.GGUF)}
    files = {kind.value: scratch / f"{kind}.gguf" for kind in shapes}
    for kind, file in zip(shapes, files.values(), strict=True):
        write_gguf(scratch / (Kind.UNIFORM if kind == Kind.UNIFORM else Kind.TRAINED), file, model.config)
        if kind != Kind.GGUF:
            _set_alpha(file, shape.rank)
    server = LlamaCppServer(base, files, model.config.vocab_size)
    its = {
        name: {kind: server.log_probabilities(ids, kind) for kind in (None, *files)} for name, ids in prompts.items()
    }
    plain, trained = _answers(model, prompts), _with(model, scratch / "trained", dict.fromkeys(ranks, 1.0), prompts)
    figures: dict[str, Any] = {}
    for kind, form in shapes.items():
        treatment = llama_cpp.treat(form)
        assert isinstance(treatment, Applied)
        factors = {name: treatment.factors[name] for name in ranks}
        told = _with(model, scratch / "trained", factors, prompts)
        figures[kind.value] = {
            name: _compared(plain[name], trained[name], told[name], its[name][None], its[name][kind.value])
            for name in prompts
        }
    off = {name: float(np.abs(its[name][None] - plain[name]).max()) for name in prompts}
    return {"ranks": ranks, "largest_difference_of_base": off, "forms": figures}


def _compared(
    plain: NDArray[np.float64],
    trained: NDArray[np.float64],
    told: NDArray[np.float64],
    its_plain: NDArray[np.float64],
    its: NDArray[np.float64],
) -> dict[str, float]:
    found, expected, by_rule = its - its_plain, trained - plain, told - plain
    return {
        "change": float(np.sqrt(np.mean(expected**2))),
        "apart": float(np.linalg.norm(found - expected) / np.linalg.norm(expected)),
        "apart_from_rule": float(np.linalg.norm(found - by_rule) / np.linalg.norm(by_rule)),
        "correlation": float(np.corrcoef(found, expected)[0, 1]),
    }


def _write_adapter(model: Any, folder: Path) -> dict[str, int]:
    """Ranks RANKS in turn on TARGETS, but for v of the first block and down of the last, which are absent; ranks by
    layer."""
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


def _set_alpha(file: Path, alpha: int) -> None:
    """What llama.cpp's converter writes there: the configuration's `lora_alpha`."""
    field = gguf.GGUFReader(file, "r+").fields[gguf.Keys.Adapter.LORA_ALPHA]
    field.parts[field.data[0]][0] = alpha


def _with(
    model: Any, folder: Path, factors: Mapping[str, float], prompts: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[np.float64]]:
    """PEFT's answers with the update of each layer times its factor."""
    adapted = load(model, folder, "default")
    with torch.no_grad():
        for layer in adapted_layers(adapted, "default"):
            layer.B.mul_(factors[layer.name])
    found = _answers(adapted, prompts)
    detach(adapted)
    return found


def _answers(model: Any, prompts: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float64]]:
    """Log probabilities of the token after each prompt."""
    with torch.no_grad():
        logits = {name: model(torch.tensor([list(ids)])).logits[0, -1].double() for name, ids in prompts.items()}
    return {name: torch.log_softmax(row, -1).numpy() for name, row in logits.items()}
