"""LoRA adapters that exist: whether one is such as we train, prune and export; loaded by PEFT's own code (attach.py).

What PEFT saves of an adapter whose initialisation took its first product out of the base weights (PiSSA, OLoRA, …) are
factors that fit that changed base alone, which is nowhere: loading makes it anew, by another SVD. It is refused;
`save_pretrained(…, path_initial_model_for_weight_conversion=…)` makes a plain LoRA of it.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, PeftType, TaskType
from peft import __version__ as peft_version
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from prunedlora.adapters.carried import CARRIED_INITS, uncarried
from prunedlora.adapters.export import CONFIG_NAME
from prunedlora.adapters.layers import wrapped_heads
from prunedlora.adapters.peft_limits import refused_by_peft
from prunedlora.adapters.plain import adapted_names
from prunedlora.adapters.targets import LINEAR, TargetError

NO_PART_OF_A_LORA = {"runtime_config"}
"""What a saved configuration may have and PEFT drops."""


CLASS_HEADS = ("classifier", "score")
"""What PEFT trains whole of a classifier; earlier versions of it do not say so in the
configuration that they save. https://github.com/huggingface/peft/blob/main/src/peft/peft_model.py
(PeftModelForSequenceClassification)"""
CONVERTIBLE_INITS = ("pissa", "corda", "olora", "lora_ga")
"""Beginnings of `init_lora_weights` of which PEFT makes a plain LoRA (PeftModel.save_pretrained)."""


class ExistingAdapterError(TargetError):
    """An adapter that cannot be gone on from, on this base model; the message names what does not fit."""


@dataclass(frozen=True)
class ExistingAdapter:
    """An adapter to go on from, as it lies in a folder of PEFT's."""

    name: str
    """What people call it."""
    folder: Path
    convert_rank: int | None = None
    """Rank at which an adapter that is no LoRA is converted to one; None: it is refused."""


def read_config(existing: ExistingAdapter) -> PeftConfig:
    """The configuration of an adapter that can be gone on from: plain LoRA, or with `convert_rank` of another tuner.

    Raises ExistingAdapterError naming a setting that would be lost, of this version of PEFT or a later one.
    """
    path = existing.folder / CONFIG_NAME
    try:
        tree = json.loads(path.read_text("utf-8"))
        kind = tree["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExistingAdapterError(f"{told(existing)}: {path} is no configuration of an adapter: {error}") from error
    if kind not in list(PeftType):
        raise ExistingAdapterError(f"{told(existing)} is of type {kind!r}, which peft {peft_version} does not know")
    if kind == PeftType.LORA:
        _check_known(existing, tree)
        _check_numbers(existing, tree)
        _check_init(existing, tree.get("init_lora_weights", True))
    try:
        config = PeftConfig.from_pretrained(str(existing.folder))
    except (TypeError, ValueError) as error:
        raise ExistingAdapterError(f"{told(existing)}: PEFT does not read {path}: {error}") from error
    if kind != PeftType.LORA:
        if existing.convert_rank is None:
            raise ExistingAdapterError(
                f"{told(existing)} is no LoRA but {kind}: PEFT can approximate some kinds by one, at a rank of your "
                "choice: set adapter.convert_to_lora to it"
            )
        if not issubclass(PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type], BaseTuner):
            raise ExistingAdapterError(
                f"{told(existing)} ({kind}) changes no weights of layers (it is made of prompts, say): there is no "
                "LoRA to make of it; remove adapter.convert_to_lora and begin with another adapter or a fresh one"
            )
        return config
    if existing.convert_rank is not None:
        raise ExistingAdapterError(f"{told(existing)} is a LoRA already: remove adapter.convert_to_lora")
    _check_carried(existing, config)
    return config


def trainable(config: LoraConfig, dropout: float) -> LoraConfig:
    """The configuration for training on, on a base model that may be called otherwise. Changes it in place."""
    if config.task_type == TaskType.SEQ_CLS and config.modules_to_save is None:
        config.modules_to_save = list(CLASS_HEADS)
    # No task type: PEFT's task classes add head modules of their own.
    config.task_type = config.base_model_name_or_path = config.revision = None
    config.inference_mode, config.lora_dropout, config.init_lora_weights = False, dropout, True
    return config


def check_places(
    existing: ExistingAdapter,
    model: PeftModel,
    adapter_name: str,
    heads: Sequence[str],
) -> None:
    """Raises ExistingAdapterError where the adapter on `model` has other heads than `heads`, or is on a module that is
    no linear layer; names the first."""
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, BaseTunerLayer) and not isinstance(module.get_base_layer(), LINEAR):
            kind = type(module.get_base_layer()).__name__
            raise ExistingAdapterError(f"{told(existing)} adapts {name!r}, a {kind}; linear layers alone are pruned")
    found = list(wrapped_heads(model))
    if set(found) != set(heads):
        rate = "with optimizer.head_learning_rate" if found else "and no optimizer.head_learning_rate"
        raise ExistingAdapterError(
            f"{told(existing)} trains {', '.join(found) or 'no module'} whole: set adapter.head_modules to {found}, "
            f"{rate}"
        )
    if not adapted_names(model, adapter_name):
        raise ExistingAdapterError(f"{told(existing)} has no layer on this base model")


def pattern_targets(
    model: nn.Module, ranks: Mapping[str, int], heads: Sequence[str], reached: Collection[str] | None
) -> dict[str, int]:
    """Layers of a fresh adapter, in module order → rank, as another one has them; those of rank 0 are left out.

    Raises TargetError for a layer that the model lacks, is not linear, lies in a head, is not in `reached`, or that
    PEFT refuses, and where no layer is left.
    """
    modules = dict(model.named_modules())
    wanted = {name: rank for name, rank in ranks.items() if rank > 0}
    if not wanted:
        raise TargetError("adapter.rank_pattern_from: every layer has rank 0")
    where = "adapter.rank_pattern_from gives a rank to"
    for name in wanted:
        if name not in modules:
            raise TargetError(f"{where} {name!r}, which the base model does not have")
        if not isinstance(modules[name], LINEAR):
            raise TargetError(f"{where} {name!r}, a {type(modules[name]).__name__}, not a linear layer")
        if any(name == head or name.startswith(f"{head}.") for head in heads):
            raise TargetError(f"{where} {name!r}, which is trained whole: it lies in adapter.head_modules")
        if reached is not None and name not in reached:
            raise TargetError(f"{where} {name!r}, which gets no gradient: the task does not reach it")
    if refused := refused_by_peft(model, wanted):
        name, reason = next(iter(refused.items()))
        raise TargetError(f"{where} {name!r}, which {reason}")
    return {name: wanted[name] for name in modules if name in wanted}


def _check_known(existing: ExistingAdapter, tree: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(LoraConfig)} | NO_PART_OF_A_LORA
    for name in sorted(tree.keys() - known):
        if tree[name]:
            raise ExistingAdapterError(
                f"{told(existing)} has {name} {tree[name]!r}, which peft {peft_version} does not know: a later "
                "version may"
            )


def _check_numbers(existing: ExistingAdapter, tree: Mapping[str, Any]) -> None:
    """Of ranks and scalings, which PEFT takes as they come, or its own defaults where they are missing."""

    def check(name: str, value: Any, *, whole: bool) -> None:
        kinds = int if whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or (whole and value < 1):
            wanted = "a whole number from 1" if whole else "a number"
            raise ExistingAdapterError(f"{told(existing)}: {CONFIG_NAME} has {name} {value!r}, not {wanted}")

    for name, pattern, whole in (("r", "rank_pattern", True), ("lora_alpha", "alpha_pattern", False)):
        if name not in tree:
            raise ExistingAdapterError(f"{told(existing)}: {CONFIG_NAME} has no {name}")
        check(name, tree[name], whole=whole)
        values = tree.get(pattern, {})
        if not isinstance(values, dict):
            raise ExistingAdapterError(
                f"{told(existing)}: {CONFIG_NAME} has {pattern} {values!r}, not an object of modules' names: "
                "{} for none"
            )
        for module, value in values.items():
            check(f"{pattern} {module!r}", value, whole=whole)


def _check_init(existing: ExistingAdapter, init: Any) -> None:
    if init not in CARRIED_INITS:
        where = f"{told(existing)} has init_lora_weights {init!r}"
        if not isinstance(init, str):
            raise ExistingAdapterError(f"{where}, which is none of PEFT's values: true or false, or a name")
        if init.startswith(CONVERTIBLE_INITS):
            raise ExistingAdapterError(
                f"{where}, which changed the base weights: its factors fit those alone. Make a plain LoRA of it: "
                "PEFT's save_pretrained with path_initial_model_for_weight_conversion"
            )
        raise ExistingAdapterError(
            f"{where}: its factors fit the base weights that this made alone (quantised ones, for loftq), if any, "
            "which are not at hand. Merge it into those, and begin on the merged model with a fresh adapter"
        )


def _check_carried(existing: ExistingAdapter, config: LoraConfig) -> None:
    for name, value, default in uncarried(config):
        raise ExistingAdapterError(
            f"{told(existing)} has {name} {value!r}; adapters are gone on from that have {default!r} there, as plain "
            "LoRA"
        )


def way_to_lora(kind: str) -> str:
    """What helps with an adapter of another kind; nothing where PEFT's own code makes no LoRA of it."""
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType(kind)) if kind in list(PeftType) else None
    left = [getattr(tuner, "tuner_layer_cls", None)]
    while left and (layer := left.pop()) is not None:
        if "supports_lora_conversion" in vars(layer):
            return "; PEFT makes a LoRA of this kind (peft.save_as_lora): shrink what that writes"
        left += layer.__subclasses__()
    return ""


def told(existing: ExistingAdapter) -> str:
    """How messages call it."""
    return f"adapter {existing.name!r}"
