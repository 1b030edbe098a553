"""Put an adapter on a base model, and take it off again without a trace: one base model serves many trials."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from prunedlora.adapters.layers import wrapped_heads
from prunedlora.adapters.plain import adapted_names
from prunedlora.adapters.targets import exact_selection, resolve_head, resolve_targets

LOW_PRECISION = (torch.bfloat16, torch.float16)
# Where transformers keeps the hooks that PEFT asks for on the input embeddings of a base with gradient checkpointing.
INPUT_GRADIENT_HOOKS = ("_require_grads_hooks", "_require_grads_hook")


@dataclass(frozen=True)
class AdapterSettings:
    """What is attached."""

    initial_rank: int
    """Rank of every adapted layer at the start."""
    alpha: float
    """Numerator of the scaling: alpha / initial_rank, or alpha / sqrt(initial_rank) with rsLoRA."""
    use_rslora: bool
    dropout: float
    """Dropout on the input of A while training."""
    target_modules: str | Sequence[str]
    """"all-linear", or full names or endings of linear modules."""
    head_modules: Sequence[str]
    """Modules trained whole and saved with the adapter (PEFT's modules_to_save)."""
    layers_to_transform: Sequence[int] | None = None
    """Indices of the transformer blocks whose modules are adapted; None: all."""
    reached: Collection[str] | None = None
    """Full names of the linear modules that the task's loss depends on (adapters/reach.py), the only ones that are
    adapted; None: all."""


def attach(
    model: nn.Module,
    settings: AdapterSettings,
    adapter_name: str,
    generator_seed: int,
    adalora: Mapping[str, Any] | None = None,
) -> PeftModel:
    """The model with a fresh adapter: A from PEFT's Kaiming initialisation under `generator_seed`, B zero.

    With `adalora`, fields of PEFT's AdaLoraConfig, it is an AdaLoRA adapter: singular triplets with E zero.

    Changes `model` in place (its linear modules are wrapped, its parameters frozen) until `detach`; the weights are
    not touched. The caller's random state is left as it was. Factors and head are kept in at least float32.

    Raises TargetError for target or head modules that do not fit the model, ValueError for a base that still carries
    an adapter.
    """
    if any(hasattr(module, "lora_A") for module in model.modules()):
        raise ValueError("the base model still carries an adapter; detach it first")
    heads = resolve_head(model, settings.head_modules)
    targets = resolve_targets(model, settings.target_modules, heads, settings.layers_to_transform, settings.reached)
    modules = dict(model.named_modules())
    fields = {
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": heads or None,
        "fan_in_fan_out": all(isinstance(modules[name], Conv1D) for name in targets),
        **exact_selection(modules, targets),
    }
    config = (
        LoraConfig(r=settings.initial_rank, use_rslora=settings.use_rslora, **fields)
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
    trained, hooks, pretraining_tp, training = state
    base: nn.Module = model.get_base_model()
    for name, head in wrapped_heads(model).items():
        # By hand, since PEFT's unload puts the trained copy of a head in the place of the original.
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, head.original_module)
    model.unload()
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
    return base


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The caller's random state is left as it was, and its warnings free of what it can do nothing about."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        # PEFT 0.21 reads a property that transformers 5 calls deprecated.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # repack.merge sees to it.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer", UserWarning)
        yield


def _base_state(model: nn.Module) -> tuple[dict[str, bool], dict[str, Any], Any, bool]:
    """What attaching changes besides modules: every requires_grad, input gradient hooks, a field of the config."""
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
