"""Put an adapter on a base model, and take it off again without a trace: one base model serves many trials."""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

from prunedlora.adapters.existing import (
    ExistingAdapter,
    ExistingAdapterError,
    check_places,
    pattern_targets,
    read_config,
    trainable,
)
from prunedlora.adapters.existing_weights import fill, leave_out_unreached, own_weights, read_weights
from prunedlora.adapters.export import CONFIG_NAME
from prunedlora.adapters.layers import wrapped_heads
from prunedlora.adapters.plain import adapted_names
from prunedlora.adapters.targets import exact_selection, resolve_head, resolve_targets

LOW_PRECISION = (torch.bfloat16, torch.float16)
# Where transformers keeps the hooks that PEFT asks for on the input embeddings of a base with gradient checkpointing.
INPUT_GRADIENT_HOOKS = ("_require_grads_hooks", "_require_grads_hook")

_State = tuple[dict[str, bool], dict[str, Any], Any, bool]
"""What attaching changes besides modules: requires_grad, input gradient hooks, a field of the config, the mode."""


@dataclass(frozen=True)
class AdapterSettings:
    """What is attached."""

    initial_rank: int | None
    """Rank of every adapted layer at the start; None where `ranks` or `existing` gives them."""
    alpha: float | None
    """Numerator of the scaling: alpha / rank at the start, or alpha / sqrt(rank) with rsLoRA; None: as `existing`."""
    use_rslora: bool
    dropout: float
    """Dropout on the input of A while training."""
    target_modules: str | Sequence[str] | None
    """"all-linear", or full names or endings of linear modules; None where `ranks` or `existing` gives them."""
    head_modules: Sequence[str]
    """Modules trained whole and saved with the adapter (PEFT's modules_to_save)."""
    layers_to_transform: Sequence[int] | None = None
    """Indices of the transformer blocks whose modules are adapted; None: all."""
    reached: Collection[str] | None = None
    """Full names of the linear modules that the task's loss depends on (adapters/reach.py), the only ones that are
    adapted; None: all."""
    ranks: Mapping[str, int] | None = None
    """Full name → rank of the layers to adapt, those of rank 0 left out."""
    existing: ExistingAdapter | None = None
    """What is gone on from; dropout and reach alone are then of these settings, and `head_modules` must be its own."""


def attach(
    model: nn.Module,
    settings: AdapterSettings,
    adapter_name: str,
    generator_seed: int,
    adalora: Mapping[str, Any] | None = None,
) -> PeftModel:
    """The model with a fresh adapter: A from PEFT's Kaiming initialisation under `generator_seed`, B zero; or with the
    one that exists, its factors and heads as they are in its file, bit for bit; its layers that do nothing yet and that
    `reached` lacks are left out.

    With `adalora`, fields of PEFT's AdaLoraConfig, it is an AdaLoRA adapter: singular triplets with E zero.

    Changes `model` in place (its linear modules are wrapped, its parameters frozen) until `detach`; the weights are
    not touched. The caller's random state is left as it was. Factors and head are kept in at least float32.

    Raises TargetError for target or head modules that do not fit the model (ExistingAdapterError for an adapter),
    ValueError for a base that still carries an adapter.
    """
    if any(hasattr(module, "lora_A") for module in model.modules()):
        raise ValueError("the base model still carries an adapter; detach it first")
    heads = resolve_head(model, settings.head_modules)
    if settings.existing is not None:
        return _attach_existing(model, settings, settings.existing, heads, adapter_name)
    if settings.ranks is not None:
        ranks = pattern_targets(model, settings.ranks, heads, settings.reached)
        targets = list(ranks)
    else:
        assert settings.target_modules is not None
        targets = resolve_targets(model, settings.target_modules, heads, settings.layers_to_transform, settings.reached)
        ranks = {}
    modules = dict(model.named_modules())
    fields = {
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": heads or None,
        "fan_in_fan_out": all(isinstance(modules[name], Conv1D) for name in targets),
        **exact_selection(modules, targets),
    }
    config = (
        LoraConfig(
            r=settings.initial_rank or max(ranks.values()),
            use_rslora=settings.use_rslora,
            # PEFT takes keys for regular expressions at a name's end, the first one winning: anchored they are exact.
            rank_pattern={"^" + re.escape(name): rank for name, rank in ranks.items()},
            **fields,
        )
        if adalora is None
        else AdaLoraConfig(init_r=settings.initial_rank, **fields, **adalora)
    )
    state = _base_state(model)
    with _undisturbed():
        torch.manual_seed(generator_seed)
        # No task type: PEFT's task classes add head modules of their own.
        adapted = get_peft_model(model, config, adapter_name=adapter_name)
    adapted.state_before_attach = state
    assert adapted_names(adapted, adapter_name) == targets
    for head in wrapped_heads(adapted).values():
        _raise_precision(head.modules_to_save[adapter_name])
    return adapted


def _attach_existing(
    model: nn.Module, settings: AdapterSettings, existing: ExistingAdapter, heads: Sequence[str], adapter_name: str
) -> PeftModel:
    config = read_config(existing)
    if isinstance(config, LoraConfig):
        weights = read_weights(existing)
    else:
        config, weights = _converted(model, existing, config, adapter_name)
    adapted = _attached_as(model, existing, trainable(config, settings.dropout), adapter_name)
    try:
        check_places(existing, adapted, adapter_name, heads)
        for head in wrapped_heads(adapted).values():
            _raise_precision(head.modules_to_save[adapter_name])
        weights = own_weights(existing, adapted, weights)
        with _undisturbed():
            fill(existing, adapted, adapter_name, weights)
        adapted.left_out = leave_out_unreached(existing, adapted, adapter_name, weights, settings.reached)
    except ExistingAdapterError:
        detach(adapted)  # the base serves other trials
        raise
    return adapted


def left_out(model: PeftModel) -> tuple[str, ...]:
    """Layers of an adapter that was gone on from that the task does not reach and that are not on `model`."""
    names: tuple[str, ...] = getattr(model, "left_out", ())
    return names


def _converted(
    model: nn.Module, existing: ExistingAdapter, config: PeftConfig, adapter_name: str
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """An adapter of another tuner as the LoRA of rank `existing.convert_rank` that is nearest to it, by PEFT."""
    try:
        from peft import convert_to_lora
    except ImportError as error:  # before PEFT 0.19
        raise ExistingAdapterError(
            "adapter.convert_to_lora needs a later version of peft: pip install -U peft"
        ) from error
    assert existing.convert_rank is not None
    other = _attached_as(model, existing, config, adapter_name)
    try:
        with _undisturbed():
            fill(existing, other, adapter_name, own_weights(existing, other, read_weights(existing), is_lora=False))
    except ExistingAdapterError:
        detach(other)
        raise
    try:
        converted, weights = convert_to_lora(other, existing.convert_rank, adapter_name)
    except (TypeError, ValueError) as error:  # a kind that is no product of matrices; a rank above the layer's
        kind = other.peft_config[adapter_name].peft_type.value
        raise ExistingAdapterError(
            f"PEFT does not make a LoRA of adapter {existing.name!r} ({kind}): {error}"
        ) from error
    finally:
        detach(other)
    return converted, weights


def _attached_as(model: nn.Module, existing: ExistingAdapter, config: PeftConfig, adapter_name: str) -> PeftModel:
    """`model` with the modules of an adapter that exists, its weights not filled in."""
    state = _base_state(model)
    config.task_type = None  # PEFT's task classes add head modules of their own
    try:
        with _undisturbed():
            adapted = get_peft_model(model, config, adapter_name=adapter_name)
    except ValueError as error:  # PEFT's, for target modules that are not there, or are of another kind
        _strip(model, state)
        raise ExistingAdapterError(f"adapter {existing.name!r} does not fit the base model: {error}") from error
    except (AttributeError, LookupError, TypeError, re.error) as error:  # a field that is not of its type
        _strip(model, state)
        raise ExistingAdapterError(
            f"adapter {existing.name!r}: PEFT does not take its configuration ({type(error).__name__}: {error}): "
            f"a field of {CONFIG_NAME} is damaged"
        ) from error
    adapted.state_before_attach = state
    assert isinstance(adapted, PeftModel)
    return adapted


def load(model: nn.Module, folder: Path, adapter_name: str) -> PeftModel:
    """The model with an exported adapter, loaded by PEFT alone, for evaluation; `detach` takes it off again.

    Raises ValueError for a base that still carries an adapter; PEFT's own errors for a folder that is no adapter.
    """
    if any(hasattr(module, "lora_A") for module in model.modules()):
        raise ValueError("the base model still carries an adapter; detach it first")
    state = _base_state(model)
    with _undisturbed():
        adapted = PeftModel.from_pretrained(model, str(folder), adapter_name=adapter_name)
    adapted.state_before_attach = state
    return adapted


def detach(model: PeftModel) -> nn.Module:
    """The base model as it was before `attach`: modules, weights, requires_grad and hooks. `model` is spent after it.

    Every adapter on the model goes. Raises ValueError when `model` comes neither from `attach` nor from `load`.
    """
    state: Any = getattr(model, "state_before_attach", None)
    if state is None:
        raise ValueError("detach takes what attach returned; this model was adapted elsewhere")
    base: nn.Module = model.get_base_model()
    for name, head in wrapped_heads(model).items():
        # By hand, since PEFT's unload puts the trained copy of a head in the place of the original.
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, head.original_module)
    model.unload()
    _restore(base, state)
    return base


def _strip(base: nn.Module, state: _State) -> None:
    """Takes off what PEFT has put on `base` before it failed."""
    for name, module in list(base.named_modules()):
        if isinstance(module, (BaseTunerLayer, ModulesToSaveWrapper)):
            parent, _, child = name.rpartition(".")
            own = module.original_module if isinstance(module, ModulesToSaveWrapper) else module.get_base_layer()
            setattr(base.get_submodule(parent), child, own)
    base.__dict__.pop("peft_config", None)
    _restore(base, state)


def _restore(base: nn.Module, state: _State) -> None:
    trained, hooks, pretraining_tp, training = state
    for name, before in hooks.items():
        if base.__dict__.get(name) is not before:
            added = base.__dict__.pop(name)
            for handle in added if isinstance(added, list) else [added]:
                handle.remove()
            if before is not None:
                setattr(base, name, before)
    if pretraining_tp is not None:
        base.config.pretraining_tp = pretraining_tp  # type: ignore[union-attr]
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(trained[name])
    base.train(training)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The caller's random state is left as it was, and its warnings free of what it can do nothing about."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        # PEFT 0.21 reads a property that transformers 5 calls deprecated.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # On a model without weights names and shapes are compared, and that is all that is wanted.
        warnings.filterwarnings(
            "ignore", ".*copying from a non-meta parameter in the checkpoint to a meta", UserWarning
        )
        # repack.merge sees to it.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer", UserWarning)
        yield


def _base_state(model: nn.Module) -> _State:
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    hooks = {name: model.__dict__.get(name) for name in INPUT_GRADIENT_HOOKS}
    return trained, hooks, getattr(getattr(model, "config", None), "pretraining_tp", None), model.training


def _raise_precision(head: nn.Module) -> None:
    """Casts a head in half precision to float32 (as PEFT does for A and B) and its inputs with it."""
    if not any(parameter.dtype in LOW_PRECISION for parameter in head.parameters()):
        return
    head.float()

    def cast(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.float() if isinstance(x, torch.Tensor) and x.dtype in LOW_PRECISION else x for x in inputs)

    head.register_forward_pre_hook(cast)
