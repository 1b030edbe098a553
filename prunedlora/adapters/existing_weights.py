"""The tensors of an adapter that exists: read from its file, told from those of the base model, and put into place."""

from collections.abc import Collection, Iterable, Mapping
from pickle import UnpicklingError

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from torch import Tensor

from prunedlora.adapters.existing import ExistingAdapter, ExistingAdapterError, told
from prunedlora.adapters.export import KEY_PREFIX
from prunedlora.adapters.layers import adapted_layers, wrapped_heads

FACTOR = ".lora_"
"""In the name of every factor of a LoRA, and in that of no module."""


def read_weights(existing: ExistingAdapter) -> dict[str, Tensor]:
    """An adapter's tensors by their names in its file, on the CPU; a .bin by torch's loader of weights alone.

    Raises ExistingAdapterError for a file that is damaged or holds other objects.
    """
    try:
        weights = load_peft_weights(str(existing.folder), device="cpu", local_files_only=True)
    except UnpicklingError as error:  # whose advice is to load it whatever it runs
        raise ExistingAdapterError(
            f"{told(existing)}: its weights are not loaded: the file holds other objects than tensors, whose loading "
            "may run code; where it is yours, save its tensors as adapter_model.safetensors"
        ) from error
    except Exception as error:  # of a damaged file, by whichever library reads it
        raise ExistingAdapterError(f"{told(existing)}: its weights cannot be read: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ExistingAdapterError(f"{told(existing)}: its weights cannot be read: the file holds no tensors by name")
    return weights


def own_weights(
    existing: ExistingAdapter, model: PeftModel, weights: Mapping[str, Tensor], *, is_lora: bool = True
) -> dict[str, Tensor]:
    """Those of `weights` that are the adapter's, on the `model` that it has been attached to.

    PEFT saves weights of the base beside the factors: of an embedding or output layer that is adapted, and of both
    where the vocabulary was resized. The base model serves other trials, and an export has none of them: they are
    dropped where they are the base's own, in the coarser of the two precisions (without weights: of its shape).

    Raises ExistingAdapterError naming a tensor that is another than the base's, has numbers that are not finite, or,
    `is_lora`, is of nothing in the model.
    """
    heads = tuple(f"{KEY_PREFIX}{name}." for name in wrapped_heads(model))
    base, own = _base_tensors(model), {}
    for key, tensor in weights.items():
        name = key.removeprefix(KEY_PREFIX).replace(".base_layer.", ".")
        if FACTOR in key or key.startswith(heads):
            check_finite(existing, key, tensor)
            own[key] = tensor
        elif name in base:
            if not _is_same(base[name], tensor):
                raise ExistingAdapterError(
                    f"{told(existing)} has weights of its own for {_module(name)!r}, {_form(tensor)}, which are not "
                    f"those of the base model, {_form(base[name])}: it was trained on another base (its vocabulary "
                    "resized, say); save that base model whole and name it in model.name"
                )
        elif is_lora:
            raise _unknown(existing, [key], weights)
        else:
            check_finite(existing, key, tensor)
            own[key] = tensor
    return own


def fill(existing: ExistingAdapter, model: PeftModel, adapter_name: str, weights: Mapping[str, Tensor]) -> None:
    """Gives the adapter on `model` its own `weights`; on a model without weights, only compares names and shapes.

    Raises ExistingAdapterError naming the first module whose weights are missing, are too many, or have another shape.
    """
    own = get_peft_model_state_dict(
        model, state_dict=model.state_dict(), adapter_name=adapter_name, save_embedding_layers=False
    )
    for name, tensor in own.items():
        if name in weights and weights[name].shape != tensor.shape:
            raise ExistingAdapterError(
                f"{told(existing)} does not fit the base model: {_module(name)!r} has {tuple(tensor.shape)} there, "
                f"{tuple(weights[name].shape)} in the adapter"
            )
    try:
        result = set_peft_model_state_dict(model, dict(weights), adapter_name=adapter_name)
    except KeyError as error:  # of a module that is trained whole
        raise lacking(existing, str(error.args[0]), weights) from error
    except RuntimeError as error:
        raise ExistingAdapterError(f"{told(existing)} does not fit the base model: {error}") from error
    prefix = getattr(model.base_model, "prefix", FACTOR)
    missing = [key for key in result.missing_keys if prefix in key and f".{adapter_name}" in key]
    if missing:
        raise lacking(existing, missing[0], weights)
    if result.unexpected_keys:
        raise _unknown(existing, result.unexpected_keys, weights)


def leave_out_unreached(
    existing: ExistingAdapter,
    model: PeftModel,
    adapter_name: str,
    weights: Mapping[str, Tensor],
    reached: Collection[str] | None,
) -> tuple[str, ...]:
    """Takes the layers that are not in `reached` and that do nothing, their B being zero, off a `model` that has been
    filled with `weights`; returns their names. `reached` None: all are. Where the model has no weights, the file tells.

    Raises ExistingAdapterError naming an unreached layer that does something, and where no layer is left.
    """
    layers = {layer.name: layer for layer in adapted_layers(model, adapter_name)}
    idle = [] if reached is None else [name for name in layers if name not in reached]
    for name in idle:
        B: Tensor | None = layers[name].B
        if layers[name].B.is_meta:  # a file of earlier names, or a converted one, is looked at by the trial
            B = weights.get(f"{KEY_PREFIX}{name}.lora_B.weight")
        if B is not None and not B.is_meta and B.any():
            raise ExistingAdapterError(
                f"{told(existing)} adapts {name!r}, which gets no gradient (the task does not reach it) and is "
                "not as it began (B is not zero): it would be served as it is, untrained. Take its factors out of the "
                "file and its name out of target_modules, or merge the adapter into the base and begin with a fresh one"
            )
    if idle and len(idle) == len(layers):
        raise ExistingAdapterError(
            f"{told(existing)}: the task reaches none of its {len(layers)} layers ({idle[0]!r} is the first)"
        )
    base = model.get_base_model()
    for name in idle:
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, base.get_submodule(name).get_base_layer())
    return tuple(idle)


def _base_tensors(model: PeftModel) -> dict[str, Tensor]:
    """Parameters and buffers of the base model under `model`, all places of a tied one, by their names without PEFT."""
    base = model.get_base_model()
    named = [*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False)]
    return {name.replace(".base_layer.", "."): tensor for name, tensor in named}


def _is_same(own: Tensor, saved: Tensor) -> bool:
    """Whether writing `saved` over the base's `own` would change nothing, or nothing but round it."""
    if own.shape != saved.shape or own.is_meta:
        return own.shape == saved.shape
    own = own.detach().cpu()
    return torch.equal(own.to(saved.dtype), saved) or torch.equal(own, saved.to(own.dtype))


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def check_finite(existing: ExistingAdapter, key: str, tensor: Tensor) -> None:
    """Raises ExistingAdapterError for numbers that are not finite in the tensor named `key` in the adapter's file."""
    if tensor.is_floating_point() and not tensor.is_meta and not tensor.float().isfinite().all():
        raise ExistingAdapterError(
            f"{told(existing)} has numbers that are not finite (NaN or infinite) in {key!r}: its training broke down; "
            "take an earlier checkpoint of it"
        )


def lacking(existing: ExistingAdapter, key: str, weights: Iterable[str]) -> ExistingAdapterError:
    """What to raise where the file, which holds tensors of the names `weights`, lacks those of `key`'s module, or one
    factor of it."""
    place, is_factor, kind = key.partition(FACTOR)
    present = [each for each in weights if FACTOR in each and each.partition(FACTOR)[0] == place]
    if is_factor and present:  # the other factor is there
        factor = f"{FACTOR}{kind}".lstrip(".").partition(".")[0]
        return ExistingAdapterError(
            f"{told(existing)} has no weights for {_module(key)!r}: its {factor} is missing, {present[0]!r} is there"
        )
    return ExistingAdapterError(f"{told(existing)} has no weights for {_module(key)!r}{_first(weights)}")


def _unknown(existing: ExistingAdapter, keys: list[str], weights: Mapping[str, Tensor]) -> ExistingAdapterError:
    return ExistingAdapterError(
        f"{told(existing)} has weights for {_module(keys[0])!r}, which the base model lacks or the adapter's "
        f"configuration does not name ({len(keys)} tensors in all){_first(weights)}"
    )


def _first(weights: Iterable[str]) -> str:
    """What the file calls its tensors: some trainers have other prefixes than PEFT."""
    return f"; the first tensor of its file is {next(iter(weights), None)!r}"


def _module(key: str) -> str:
    """The module of the base model that a tensor of an adapter is of."""
    name = key.removeprefix(KEY_PREFIX)
    for part in (FACTOR, ".modules_to_save."):
        name = name.partition(part)[0]
    return name.removesuffix(".weight").removesuffix(".bias")
