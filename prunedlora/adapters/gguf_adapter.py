"""An exported folder as one GGUF file, which llama.cpp, Ollama and LM Studio load beside a GGUF of the base model.

llama.cpp scales each tensor's update by `adapter.lora.alpha` over that tensor's own rank, and takes an alpha of 0 for
no scaling at all. Ours has none to apply, so that ranks may differ and nothing is padded.
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.h (get_scale)

Names of tensors are the `gguf` package's own map; rows of B are in the order in which GGUF files hold the base's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PretrainedConfig

from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.repack import A_SUFFIX, B_SUFFIX
from prunedlora.servers.gguf_types import GGUF_ARCHITECTURES, INTERLEAVED

GGUF_FILE = "adapter.gguf"
TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""Type of a tensor → its name in GGUF."""
OTHERWISE = "export it with --uniform, and convert that with the convert_lora_to_gguf.py of your llama.cpp"


class GgufError(ValueError):
    """An adapter that has no GGUF form of the same effect, or none that is known; the message says why."""


def check_gguf_base(base: PretrainedConfig) -> None:
    """Raises GgufError for a base model whose adapters are not known to come out right, and without `gguf`."""
    if base.model_type not in GGUF_ARCHITECTURES:
        known = ", ".join(sorted(GGUF_ARCHITECTURES))
        raise GgufError(f"no GGUF adapters for models of type {base.model_type!r}, but for {known}: {OTHERWISE}")
    _package()


def write_gguf(folder: Path, to: Path, base: PretrainedConfig) -> None:
    """Writes the adapter of an exported folder, of the ranks that it was trained with, to the file `to`, every tensor
    in its own type.

    `base`: the configuration of the base model. Raises GgufError: as `check_gguf_base`, and naming what GGUF adapters
    do not hold (a head, another kind of update, a layer without a name there), where nothing is written.
    """
    check_gguf_base(base)
    gguf = _package()
    tensors = dict(_tensors(folder, base))
    writer = gguf.GGUFWriter(to, GGUF_ARCHITECTURES[base.model_type])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            raise GgufError(f"{name} is of type {tensor.dtype}: store it in one of {', '.join(map(str, TYPES))}")
        kind = gguf.GGMLQuantizationType[TYPES[tensor.dtype]]
        writer.add_tensor(name, gguf.quants.quantize(tensor.float().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_back_gguf(file: Path, folder: Path, base: PretrainedConfig) -> int:
    """Number of tensors in a GGUF adapter, each of which is the exported folder's bit for bit, and whose alpha is 0.

    Reads the file as llama.cpp does, and undoes order and names; raises GgufError naming what differs.
    """
    gguf = _package()
    reader = gguf.GGUFReader(file)
    told = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    expected = {
        "general.architecture": GGUF_ARCHITECTURES[base.model_type],
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,
    }
    if told != expected:
        raise GgufError(f"{file} says {told} of itself, and not {expected}")
    found = {tensor.name: tensor for tensor in reader.tensors}
    state, places = _state(folder), _places(folder, base)
    wanted = {f"{name}.lora_{part}" for name in places.values() for part in "ab"}
    if found.keys() != wanted:
        raise GgufError(f"{file} has tensors of other names: {', '.join(sorted(found.keys() ^ wanted))}")
    for layer, name in places.items():
        for part, suffix in (("a", A_SUFFIX), ("b", B_SUFFIX)):
            own, stored = state[f"{KEY_PREFIX}{layer}{suffix}"], found[f"{name}.lora_{part}"]
            numbers = torch.tensor(gguf.quants.dequantize(stored.data, stored.tensor_type))
            if part == "b":
                numbers = _as_in_transformers(layer, numbers, base)
            if stored.tensor_type.name != TYPES[own.dtype] or not torch.equal(numbers, own.float()):
                raise GgufError(f"{file} has other numbers in {stored.name} than the adapter in {layer}")
    return len(found)


def _package() -> Any:
    """The module, which an extra installs."""
    try:
        import gguf
    except ImportError as error:
        raise GgufError("GGUF adapters need the package gguf: pip install 'prunedlora[gguf]'") from error
    return gguf


def _state(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS_NAME)


def _tensors(folder: Path, base: PretrainedConfig) -> Iterator[tuple[str, Tensor]]:
    """Name in GGUF → what is written there."""
    state = _state(folder)
    for layer, name in _places(folder, base).items():
        yield f"{name}.lora_a", state[f"{KEY_PREFIX}{layer}{A_SUFFIX}"]
        yield f"{name}.lora_b", _as_in_gguf(layer, state[f"{KEY_PREFIX}{layer}{B_SUFFIX}"], base)


def _places(folder: Path, base: PretrainedConfig) -> dict[str, str]:
    """Layer → name of its weight in GGUF, for an adapter that nothing but A and B of such layers belongs to."""
    _check_config(json.loads((folder / CONFIG_NAME).read_text("utf-8")))
    gguf, state = _package(), _state(folder)
    others = sorted(name for name in state if not name.endswith((A_SUFFIX, B_SUFFIX)))
    if others:
        raise GgufError(f"GGUF adapters hold factors of layers alone, and this one has {others[0]} too")
    architecture = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[GGUF_ARCHITECTURES[base.model_type]]
    names = gguf.get_tensor_name_map(architecture, base.num_hidden_layers)
    layers = [name.removeprefix(KEY_PREFIX).removesuffix(A_SUFFIX) for name in sorted(state) if name.endswith(A_SUFFIX)]
    found = {layer: names.get_name(f"{layer}.weight", try_suffixes=(".weight",)) for layer in layers}
    unknown = [layer for layer, name in found.items() if name is None]
    if unknown:
        raise GgufError(f"the layer {unknown[0]} has no name in GGUF files of {base.model_type} models: {OTHERWISE}")
    if base.tie_word_embeddings and "output.weight" in found.values():
        raise GgufError(
            "the output embedding is the input embedding in this model, and GGUF files have but one of them, which an "
            "adapter of the output cannot change alone: leave lm_head out of adapter.target_modules, or --merge"
        )
    return found


def _check_config(config: dict[str, Any]) -> None:
    """The scaling is 1 in all layers, of a language model's adapter."""
    if config["task_type"] != "CAUSAL_LM":
        raise GgufError(f"GGUF adapters are for language models, and this one's task type is {config['task_type']}")
    is_scaled = config["lora_alpha"] != config["r"] or config["alpha_pattern"] != config["rank_pattern"]
    if is_scaled or config["use_rslora"]:
        raise GgufError("the adapter's scaling is not 1: GGUF adapters of unequal ranks have no place for one")


def _heads(layer: str, base: PretrainedConfig) -> int | None:
    """Heads of a layer whose rows GGUF files hold in another order; None for those of the same order."""
    if base.model_type not in INTERLEAVED:
        return None
    by_name = {"q_proj": base.num_attention_heads, "k_proj": base.num_key_value_heads}
    return by_name.get(layer.rpartition(".")[2])


def _as_in_gguf(layer: str, B: Tensor, base: PretrainedConfig) -> Tensor:
    """B (out, rank) of a layer with its rows in GGUF's order: of each head, row i of the first half beside row i of the
    second."""
    if (heads := _heads(layer, base)) is None:
        return B
    return B.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(B.shape)


def _as_in_transformers(layer: str, B: Tensor, base: PretrainedConfig) -> Tensor:
    """The other way round."""
    if (heads := _heads(layer, base)) is None:
        return B
    return B.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(B.shape)
