"""The base model of the adapter that is to shrink: where it is, what it is for, and that the adapter fits it; without
its weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from prunedlora.adapters.existing import told
from prunedlora.adapters.file_layers import adapter_sizes, is_named
from prunedlora.adapters.targets import LINEAR
from prunedlora.config.identity import LocationError, looks_local
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.registry import lookup
from prunedlora.sweep.shrink_classes import KnownClasses
from prunedlora.sweep.shrink_original import MOST_NAMED, SEQ_CLS, Original, ShrinkError
from prunedlora.training.model import ModelError, load_model_config, load_without_weights
from prunedlora.trial.base_cache import settings_of

CLASSIFICATION, GENERATION = "text_classification", "generation"
TASK_OF_TYPE = {SEQ_CLS: CLASSIFICATION, "CAUSAL_LM": GENERATION}
"""PEFT's task type → the task whose data its adapter is for."""
VOCABULARY = ("lm_head", "embed_tokens", "embed_in", "embed_out", "wte")
"""Modules of language models that are trained whole where a vocabulary has grown: heads of no classifier."""


def base_section(original: Original, base: str | None) -> dict[str, Any]:
    """The model section of what the adapter is on, or of `base`, another place of it.

    Raises ShrinkError where neither is known.
    """
    if base is not None:
        return {"name": base}
    if original.base_settings is not None:
        return dict(original.base_settings)
    if original.base_name is None:
        raise ShrinkError(f"{told(original.existing)} does not name its base model: give --base")
    section = {"name": original.base_name}
    # A folder has no revisions, whatever was asked for when it was fetched.
    if original.base_revision is not None and not looks_local(original.base_name):
        section["revision"] = original.base_revision
    return section


def base_config(original: Original, model: ModelConfig) -> PretrainedConfig:
    """The base model's own config. Raises ShrinkError where it is not there, ModelError for overrides that do not go
    with it."""
    try:
        return load_model_config(settings_of(model))
    except (LocationError, ModelError) as error:
        if model.config_overrides and "config_overrides" in str(error):
            raise
        who = f"; {told(original.existing)} calls its base so" if model.name == original.base_name else ""
        raise ShrinkError(f"{error}{who}; --base says where it lies") from error


def task_of(original: Original, config: PretrainedConfig, asked: str | None) -> str:
    """What the adapter is for: as `asked`, else as its task type says, a head that is trained whole, or a base model
    that writes.

    Raises ShrinkError where none of them tells.
    """
    if (task := asked or _told_task(original, config)) is not None:
        return task
    kind = original.task_type
    says = f"is of task type {kind}" if kind is not None else "does not say what it is for"
    raise ShrinkError(
        f"{told(original.existing)} {says}: say --task {GENERATION} or --task {CLASSIFICATION}, whose data show what "
        "it can"
    )


def _told_task(original: Original, config: PretrainedConfig) -> str | None:
    kind = original.task_type
    if kind is not None:
        return TASK_OF_TYPE.get(kind)
    if any(not head.endswith(VOCABULARY) for head in original.heads):
        return CLASSIFICATION
    return GENERATION if set(config.architectures or ()) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()) else None


def check_fit(original: Original, model: ModelConfig, task: str, classes: KnownClasses | None) -> None:
    """Compares the adapter's layers and heads with the base model's, by their shapes; `classes` for a classifier.

    Raises ShrinkError naming the first that is not there or of another shape; ModelError for a model that is not for
    the task.
    """
    settings = {} if classes is None else {"num_labels": len(classes.names)}
    skeleton = load_without_weights(settings_of(model), lookup("task", task).auto_model, settings)
    modules = dict(skeleton.named_modules())
    _check_places(original, model, modules)
    for head, tensors in original.heads.items():
        _check_head(original, model, head, modules[head], tensors, classes)


def check_base(original: Original, name: str) -> None:
    """Compares an adapter without data with the base model of this name, by names and shapes; heads, which go by the
    classes of data, by their names alone.

    Raises ShrinkError naming what is not there, of another shape, or missing in the adapter; ModelError for a model
    that is none for what the adapter is for.
    """
    model = ModelConfig(name=name)
    task = _told_task(original, base_config(original, model))
    auto_model = "AutoModel" if task is None else lookup("task", task).auto_model
    skeleton = load_without_weights(settings_of(model), auto_model, {})
    modules = dict(skeleton.named_modules())
    _check_places(original, model, modules)
    held = adapter_sizes(original.existing)
    linear = [module for module, each in modules.items() if isinstance(each, LINEAR)]
    if missing := [module for module in linear if is_named(held.config, module) and module not in held.ranks]:
        raise ShrinkError(
            f"{told(original.existing)} has no weights for {_some(missing)}, which its configuration names and base "
            f"model {name!r} has: its file is not whole"
        )
    known = skeleton.state_dict().keys()
    if stray := [tensor for tensor in held.beside if tensor.replace(".base_layer.", ".") not in known]:
        raise ShrinkError(f"{told(original.existing)} has weights {_some(stray)}, which base model {name!r} has not")


def _check_places(original: Original, model: ModelConfig, modules: Mapping[str, nn.Module]) -> None:
    for layer in original.layers:
        module = modules.get(layer.name)
        if module is None:
            raise _no_fit(original, model, f"it adapts {layer.name!r}, which that has not")
        if not isinstance(module, LINEAR):
            raise _no_fit(original, model, f"it adapts {layer.name!r}, a {type(module).__name__} there")
        there = tuple(module.weight.shape)
        if Counter(there) != Counter((layer.d_in, layer.d_out)):  # either way round, as classes keep them
            wants = f"a layer from {layer.d_in} to {layer.d_out} numbers"
            raise _no_fit(original, model, f"{layer.name!r} has weights {there} there, and the adapter is for {wants}")
    if absent := [head for head in original.heads if head not in modules]:
        raise _no_fit(original, model, f"it trains {absent[0]!r} whole, which that has not")


def _check_head(
    original: Original,
    model: ModelConfig,
    head: str,
    module: nn.Module,
    tensors: Mapping[str, tuple[int, ...]],
    classes: KnownClasses | None,
) -> None:
    there = {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}
    for name, shape in tensors.items():
        if name not in there or there[name] == shape:
            continue
        if classes is not None and there[name] == (len(classes.names), *shape[1:]):
            raise ShrinkError(
                f"{told(original.existing)} has a head of {shape[0]} classes ({head}.{name}), and {classes.who} "
                f"{len(classes.names)}"
            )
        raise _no_fit(original, model, f"its {head}.{name} is {shape}, and {there[name]} there")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(map(repr, names[:MOST_NAMED]))}{more}"


def _no_fit(original: Original, model: ModelConfig, why: str) -> ShrinkError:
    return ShrinkError(
        f"{told(original.existing)} is of another base model than {model.name!r}: {why}; --base names its own"
    )
