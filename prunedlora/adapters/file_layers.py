"""What an adapter's own files say of its layers: ranks, widths, scalings, factors. No base model is looked at."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunedlora.adapters.existing import ExistingAdapter, ExistingAdapterError, read_config, told
from prunedlora.adapters.existing_weights import FACTOR, check_finite, lacking, read_weights
from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.repack import A_SUFFIX, B_SUFFIX
from prunedlora.adapters.update_spectrum import Factors

OLD_WEIGHTS_NAME = "adapter_model.bin"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Types of factors, by their names in a safetensors file."""
MOST_NAMED = 3


@dataclass(frozen=True)
class FileLayer:
    """One adapted layer, a linear one."""

    name: str
    """Of the module in the base model."""
    rank: int
    d_in: int
    d_out: int
    scaling: float
    """s of the update s B A."""
    dtypes: tuple[torch.dtype, torch.dtype]
    """Of A and B."""

    @property
    def width(self) -> int:
        """Parameters of one component."""
        return self.d_in + self.d_out

    @property
    def params(self) -> int:
        """Numbers in A and B."""
        return self.rank * self.width

    def bytes_at(self, rank: int) -> int:
        """Of A and B at a rank, in their own types."""
        return rank * (self.d_in * self.dtypes[0].itemsize + self.d_out * self.dtypes[1].itemsize)


@dataclass(frozen=True)
class AdapterSizes:
    """What an adapter's file holds."""

    config: LoraConfig
    layers: tuple[FileLayer, ...]
    """By name, numbers in it counted as such."""
    heads: Mapping[str, int]
    """Tensors of modules that are trained whole (PEFT's modules_to_save), by their names in the base model → numbers
    in each."""
    beside: Mapping[str, int]
    """Tensors that are neither, likewise: PEFT saves weights of the base beside the factors of an embedding or output
    layer, or where the vocabulary was resized. Whether they are the base's own, the base alone tells."""

    @property
    def params(self) -> int:
        """Numbers in A and B of all layers."""
        return sum(layer.params for layer in self.layers)

    @property
    def ranks(self) -> dict[str, int]:
        """Layer → rank."""
        return {layer.name: layer.rank for layer in self.layers}


@dataclass(frozen=True)
class _Header:
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    """None: of a type that no factor has."""


def adapter_sizes(existing: ExistingAdapter) -> AdapterSizes:
    """Sizes of an adapter, from its configuration and the header of its safetensors file (a .bin is read whole).

    Raises ExistingAdapterError naming what is missing, does not fit together, or is no linear layer's; and for an
    adapter that is no plain LoRA.
    """
    path, config = existing.folder / WEIGHTS_NAME, _lora_config(existing)
    if not path.is_file() and not (existing.folder / OLD_WEIGHTS_NAME).is_file():
        raise ExistingAdapterError(
            f"{told(existing)}: {existing.folder} has no {WEIGHTS_NAME}, nor {OLD_WEIGHTS_NAME}: its weights are not "
            f"there, {CONFIG_NAME} alone is"
        )
    if not path.is_file():
        return _sizes(existing, config, _headers(read_weights(existing)))
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
            headers = {
                key: _Header(tuple(each.get_shape()), DTYPES.get(each.get_dtype())) for key, each in slices.items()
            }
    except (OSError, SafetensorError) as error:
        raise ExistingAdapterError(f"{told(existing)}: its weights cannot be read: {error}") from error
    return _sizes(existing, config, headers)


def read_factors(existing: ExistingAdapter) -> tuple[AdapterSizes, list[Factors], dict[str, Tensor]]:
    """Sizes, the factors of `sizes.layers` in at least float32, as PEFT trains them, and the other tensors by their
    names in the base model.

    Raises ExistingAdapterError as `adapter_sizes` does; for weights that are damaged or not finite; and where every
    update is zero, so that there is nothing to measure.
    """
    adapter_sizes(existing)  # a folder without weights is told before PEFT looks for them elsewhere
    weights = read_weights(existing)
    sizes = _sizes(existing, _lora_config(existing), _headers(weights))
    for key, tensor in weights.items():
        check_finite(existing, key, tensor)
    factors = []
    for layer in sizes.layers:
        A, B = (weights[f"{KEY_PREFIX}{layer.name}{suffix}"] for suffix in (A_SUFFIX, B_SUFFIX))
        factors.append((_at_least_float32(A), _at_least_float32(B)))
    if not any(layer.scaling and A.any() and B.any() for layer, (A, B) in zip(sizes.layers, factors, strict=True)):
        raise ExistingAdapterError(
            f"{told(existing)}: nothing to measure: every update B A is zero, as before an adapter is trained"
        )
    others = {key.removeprefix(KEY_PREFIX): tensor for key, tensor in weights.items() if FACTOR not in key}
    return sizes, factors, others


def is_named(config: LoraConfig, module: str) -> bool | None:
    """Whether the configuration says that a module is adapted, as PEFT reads it; None where its model alone tells."""
    if config.target_modules in (None, "all-linear"):
        return None
    return bool(check_target_module_exists(config, module))


def _lora_config(existing: ExistingAdapter) -> LoraConfig:
    config = read_config(existing)
    if not isinstance(config, LoraConfig):
        raise ExistingAdapterError(
            f"{told(existing)} is no LoRA but {config.peft_type}: its weights become a LoRA's on its base model alone"
        )
    return config


def _headers(weights: Mapping[str, Tensor]) -> dict[str, _Header]:
    known = set(DTYPES.values())
    return {
        key: _Header(tuple(tensor.shape), tensor.dtype if tensor.dtype in known else None)
        for key, tensor in weights.items()
    }


def _sizes(existing: ExistingAdapter, config: LoraConfig, headers: Mapping[str, _Header]) -> AdapterSizes:
    layers: list[FileLayer] = []
    heads: dict[str, int] = {}
    beside: dict[str, int] = {}
    saved = tuple(config.modules_to_save or ())
    for key, header in headers.items():
        if not key.startswith(KEY_PREFIX):
            raise ExistingAdapterError(
                f"{told(existing)} has a tensor {key!r}, which is not named as PEFT names them ({KEY_PREFIX}…): it was "
                "saved by another trainer; load it there and save it by PEFT's save_pretrained"
            )
        name = key.removeprefix(KEY_PREFIX)
        if FACTOR not in key:
            (heads if _is_in_head(name, saved) else beside)[name] = torch.Size(header.shape).numel()
        elif name.endswith(A_SUFFIX):
            layers.append(_layer(existing, config, headers, name.removesuffix(A_SUFFIX)))
        else:
            _check_factor(existing, headers, key)
    if not layers:
        first = next(iter(headers), None)
        raise ExistingAdapterError(
            f"{told(existing)} has no factors of a layer in its weights; the first tensor of its file is {first!r}"
        )
    if stray := [layer.name for layer in layers if is_named(config, layer.name) is False]:
        more = f" and {len(stray) - MOST_NAMED} more" if len(stray) > MOST_NAMED else ""
        raise ExistingAdapterError(
            f"{told(existing)} has weights for {', '.join(map(repr, stray[:MOST_NAMED]))}{more}, which its "
            f"{CONFIG_NAME} does not name (target_modules): PEFT would leave them out without a word"
        )
    if saved and not heads:
        raise lacking(existing, f"{KEY_PREFIX}{saved[0]}", headers)
    return AdapterSizes(config, tuple(sorted(layers, key=_in_order)), heads, beside)


def _layer(existing: ExistingAdapter, config: LoraConfig, headers: Mapping[str, _Header], name: str) -> FileLayer:
    """The layer of this name, whose A is there."""
    A = headers[f"{KEY_PREFIX}{name}{A_SUFFIX}"]
    B = headers.get(f"{KEY_PREFIX}{name}{B_SUFFIX}")
    if B is None:
        raise lacking(existing, f"{KEY_PREFIX}{name}{B_SUFFIX}", headers)
    if len(A.shape) != 2 or len(B.shape) != 2:
        raise ExistingAdapterError(
            f"{told(existing)} adapts {name!r}, whose A is {A.shape} and B {B.shape}: a convolution's; linear layers "
            "alone are pruned"
        )
    if A.dtype is None or B.dtype is None:
        raise ExistingAdapterError(
            f"{told(existing)} has factors of {name!r} in a type that is none of float32, float64, bfloat16 and float16"
        )
    rank, scaling = _rank_and_scaling(existing, config, name)
    if (A.shape[0], B.shape[1]) != (rank, rank):
        raise ExistingAdapterError(
            f"{told(existing)}: {name!r} has rank {rank} in {CONFIG_NAME}, but A {A.shape} and B {B.shape} in the file"
        )
    return FileLayer(name, rank, A.shape[1], B.shape[0], scaling, (A.dtype, B.dtype))


def _rank_and_scaling(existing: ExistingAdapter, config: LoraConfig, name: str) -> tuple[int, float]:
    """As PEFT takes them: the first pattern that matches at the end of the name, else the common value.
    https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/model.py (_create_and_replace)"""
    try:
        rank_key, alpha_key = (
            get_pattern_key(list(each), name) for each in (config.rank_pattern, config.alpha_pattern)
        )
    except re.error as error:
        raise ExistingAdapterError(
            f"{told(existing)}: {CONFIG_NAME} has a pattern of ranks or alphas that is no regular expression: {error}"
        ) from error
    rank = int(config.rank_pattern.get(rank_key, config.r))
    alpha = float(config.alpha_pattern.get(alpha_key, config.lora_alpha))
    return rank, alpha / rank**0.5 if config.use_rslora else alpha / rank


def _check_factor(existing: ExistingAdapter, headers: Mapping[str, _Header], key: str) -> None:
    """Refuses a tensor of a LoRA that is neither an A nor, beside an A, a B."""
    name, _, kind = key.removeprefix(KEY_PREFIX).partition(FACTOR)
    if f"{FACTOR}{kind}" == B_SUFFIX:
        if f"{KEY_PREFIX}{name}{A_SUFFIX}" not in headers:
            raise lacking(existing, f"{KEY_PREFIX}{name}{A_SUFFIX}", headers)
    elif kind.startswith("embedding_"):
        raise ExistingAdapterError(f"{told(existing)} adapts {name!r}, an Embedding; linear layers alone are pruned")
    else:
        raise ExistingAdapterError(
            f"{told(existing)} has a tensor {key!r}, which is no factor A or B of a plain LoRA (…{A_SUFFIX}, "
            f"…{B_SUFFIX})"
        )


def _is_in_head(name: str, saved: Sequence[str]) -> bool:
    """Whether a tensor lies in a module that PEFT saves whole: one whose name ends in an entry of modules_to_save."""
    parts = name.split(".")[:-1]
    return any(".".join(parts[:end]).endswith(tuple(saved)) for end in range(1, len(parts) + 1))


def _in_order(layer: FileLayer) -> list[tuple[int, int, str]]:
    """Block 10 comes behind block 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in layer.name.split(".")]


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
