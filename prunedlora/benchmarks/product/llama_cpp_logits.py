"""What llama.cpp makes of one adapter of unequal ranks, in each of its forms: the change of the next token's log
probabilities, against PEFT's of the adapter as it was trained, and of the update that the rule says is applied.

The forms: the trained folder and the uniform one as llama.cpp's own converter turns them into GGUF (`lora_alpha` in the
file), and ours (alpha 0). https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from prunedlora.adapters.gguf_adapter import write_gguf
from prunedlora.adapters.repack import make_uniform
from prunedlora.adapters.size import served_layers
from prunedlora.benchmarks.product.llama_cpp_server import LlamaCppServer
from prunedlora.benchmarks.product.unequal_adapter import answers_of, answers_with, write_unequal
from prunedlora.servers import llama_cpp
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Applied


def measure(model: Any, base: Path, prompts: Mapping[str, Sequence[int]], scratch: Path) -> dict[str, Any]:
    """Figures by form and prompt; `base` is the GGUF file of `model`, both in float32. Root mean squares over the
    vocabulary: `change`, by PEFT, from base to adapter; `apart`, of that and llama.cpp's change, as a share of it;
    `apart_from_rule`, of the change by the update that the rule says and llama.cpp's, as a share of the former.

    Writes adapters into the folder `scratch`; the model is left as it was.
    """
    ranks = write_unequal(model, scratch / "trained")
    widths = served_layers(model)
    assert widths is not None
    shape = AdapterShape(Kind.TRAINED, ranks, widths.linear, model_type=model.config.model_type)
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
    plain, trained = (
        answers_of(model, prompts),
        answers_with(model, scratch / "trained", dict.fromkeys(ranks, 1.0), prompts),
    )
    figures: dict[str, Any] = {}
    for kind, form in shapes.items():
        treatment = llama_cpp.treat(form)
        assert isinstance(treatment, Applied)
        factors = {name: treatment.factors[name] for name in ranks}
        told = answers_with(model, scratch / "trained", factors, prompts)
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


def _set_alpha(file: Path, alpha: int) -> None:
    """What llama.cpp's converter writes there: the configuration's `lora_alpha`."""
    field = gguf.GGUFReader(file, "r+").fields[gguf.Keys.Adapter.LORA_ALPHA]
    field.parts[field.data[0]][0] = alpha
