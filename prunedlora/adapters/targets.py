"""Which modules of a base model an adapter goes to, by full name, and how to tell PEFT so that it takes just those."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D

from prunedlora.adapters.peft_limits import refused_by_peft

ALL_LINEAR = "all-linear"
# bitsandbytes' quantised layers are subclasses of nn.Linear; Conv1D is GPT-2's linear layer with a transposed weight.
LINEAR = (nn.Linear, Conv1D)


class TargetError(ValueError):
    """Target or head modules that the model does not have, or that an adapter cannot be put on."""


def _matches(name: str, entry: str) -> bool:
    return name == entry or name.endswith("." + entry)


def resolve_head(model: nn.Module, entries: Sequence[str]) -> list[str]:
    """Full names of the modules trained whole, in module order. Entries are full names or endings after a dot.

    Raises TargetError when an entry matches nothing, when one head lies inside another, or when PEFT, which
    compares endings without regard to dots, would train a module that was not asked for.
    """
    names = [name for name, _ in model.named_modules() if name]
    for entry in entries:
        if not any(_matches(name, entry) for name in names):
            children = ", ".join(name for name, _ in model.named_children())
            raise TargetError(f"head module {entry!r} matches no module of the model; top-level modules: {children}")
    heads = [name for name in names if any(_matches(name, entry) for entry in entries)]
    for name in heads:
        if outer := [head for head in heads if name.startswith(head + ".")]:
            raise TargetError(f"head module {name!r} lies inside head module {outer[0]!r}; name only one of them")
    surplus = [name for name in names if name not in heads and any(name.endswith(head) for head in heads)]
    if surplus:
        raise TargetError(
            f"PEFT matches modules_to_save by ending and would train {', '.join(surplus)} too; "
            "add them to head_modules or leave the head out"
        )
    return heads


def resolve_targets(
    model: nn.Module,
    targets: str | Sequence[str],
    heads: Sequence[str],
    layers: Sequence[int] | None = None,
    reached: Collection[str] | None = None,
) -> list[str]:
    """Full names of the linear modules to adapt, in module order; with `layers` only those in blocks of these indices
    (the first number in a module's name, as in PEFT's layers_to_transform).

    `targets` is "all-linear" (every linear module but the output embedding and what lies in `heads`, full names), or
    a list of full names or endings after a dot. Of either, only modules that are in `reached` (adapters/reach.py) are
    taken; None: all.

    What PEFT cannot adapt (adapters/peft_limits.py) is left out of "all-linear".

    Raises TargetError when nothing, one of the entries or one of the layers matches nothing, a full name or everything
    that an ending matches is not reached, a matched module is not linear (stacked experts are not), or PEFT cannot
    adapt it.
    """
    names = _all_targets(model, targets, heads, reached)
    if layers is None:
        return names
    block = {name: next((int(part) for part in name.split(".") if part.isdigit()), None) for name in names}
    missing = sorted(set(layers) - set(block.values()))
    if missing:
        known = sorted(index for index in set(block.values()) if index is not None)
        raise TargetError(f"layers_to_transform: no target module lies in layer {missing[0]}; layers: {known}")
    return [name for name in names if block[name] in set(layers)]


def adaptable(model: nn.Module, heads: Sequence[str]) -> list[str]:
    """Full names of the linear modules, in module order, but the output embedding and what lies in `heads`."""
    embedding = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    return [
        name
        for name, module in model.named_modules()
        if name and isinstance(module, LINEAR) and module is not embedding and not _in_head(name, heads)
    ]


def stacked_weights(model: nn.Module) -> dict[str, int]:
    """Full name → numbers in it of every parameter that holds the weights of several linear layers, (layers, …): the
    experts of a mixture. No adapter is put on them: PEFT's `target_parameters` computes their updates without calling
    A and B, so that no hook sees the tokens that pruning goes by, and shares one rank among all experts of a tensor.
    """
    return {
        f"{name}.{own}" if name else own: parameter.numel()
        for name, module in model.named_modules()
        if not isinstance(module, _ConvNd)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3 and parameter.shape[0] > 1
    }


def _in_head(name: str, heads: Sequence[str]) -> bool:
    return any(name == head or name.startswith(head + ".") for head in heads)


def _all_targets(
    model: nn.Module, targets: str | Sequence[str], heads: Sequence[str], reached: Collection[str] | None
) -> list[str]:
    modules = dict(model.named_modules())
    linear = [name for name, module in modules.items() if name and isinstance(module, LINEAR)]

    if isinstance(targets, str):
        if targets != ALL_LINEAR:
            raise TargetError(f"target_modules is {targets!r}; give {ALL_LINEAR!r} or a list of module names")
        possible = adaptable(model, heads)
        refused = refused_by_peft(model, possible)
        found = [name for name in possible if (reached is None or name in reached) and name not in refused]
        if refused and not found:
            name, reason = next(iter(refused.items()))
            raise TargetError(f"target_modules {ALL_LINEAR!r} leaves nothing: {name!r} and the like {reason}")
        if possible and not found:
            raise TargetError(f"the task reaches none of the model's {len(possible)} linear layers")
        if not found:
            raise TargetError(f"target_modules {ALL_LINEAR!r} matches nothing: the model has no linear layer to adapt")
        return found
    chosen: set[str] = set()
    for entry in targets:
        matched = [name for name in modules if name and _matches(name, entry) and not _in_head(name, heads)]
        if not matched:
            endings = ", ".join(sorted({name.rpartition(".")[2] for name in linear if not _in_head(name, heads)}))
            raise TargetError(
                f"target module {entry!r} matches nothing outside the head; linear modules end in: {endings}"
                f"{_stacked_hint(model)}"
            )
        for name in matched:
            if not isinstance(modules[name], LINEAR):
                kind = type(modules[name]).__name__
                raise TargetError(
                    f"target module {name!r} is a {kind}, not a linear layer{_stacked_hint(modules[name], f'{name}.')}"
                )
        useful = [name for name in matched if reached is None or name in reached]
        if not useful or (entry in matched and entry not in useful):
            raise TargetError(
                f"target module {entry!r} gets no gradient: the task does not reach "
                f"{', '.join(name for name in matched if name not in useful)}; leave it out"
            )
        if refused := refused_by_peft(model, useful):
            name, reason = next(iter(refused.items()))
            raise TargetError(f"target module {entry!r} cannot be adapted: {name!r} {reason}; leave it out")
        chosen.update(useful)
    if not chosen:
        raise TargetError("target_modules is empty; name at least one module")
    return [name for name in modules if name in chosen]


def _stacked_hint(model: nn.Module, prefix: str = "") -> str:
    """What to add to a message where the model has stacked weights that may have been meant."""
    kinds = sorted({name.rpartition(".")[2] for name in stacked_weights(model)})
    names = ", ".join(f"{prefix}{kind}" if prefix else kind for kind in kinds)
    return f"; experts stacked in one tensor are not adapted: {names}" if kinds else ""


def exact_selection(model_names: Iterable[str], targets: Sequence[str]) -> dict[str, Any]:
    """`target_modules` and `exclude_modules` of a LoraConfig that select `targets` (full names) and nothing else.

    PEFT takes a list entry as an ending too, so that "q" would bring in "enc.q": such names are excluded, by a
    regular expression because a list of excluded names is matched by endings as well.
    https://github.com/huggingface/peft/blob/main/src/peft/tuners/tuners_utils.py (check_target_module_exists)
    """
    wanted = set(targets)
    endings = tuple("." + name for name in targets)
    strays = [name for name in model_names if name not in wanted and name.endswith(endings)]
    return {
        "target_modules": list(targets),
        "exclude_modules": "|".join(re.escape(name) for name in strays) or None,
    }
