"""What a sweep's servers make of what it is planned to leave, before anything is trained: sizes, and refusals.

Which layers keep how much is found while training. So a plan is looked at as the adapter of one rank in all layers that
it may come to, and as the worst that it may: ranks that differ, and a layer that is gone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from transformers import PreTrainedModel

from prunedlora.adapters.size import served_layers
from prunedlora.adapters.targets import resolve_head
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize, Planner
from prunedlora.results.analysis.served_size import adapter_form
from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind
from prunedlora.servers.known import SERVERS, in_form
from prunedlora.servers.served_slot import Widths, served_slot
from prunedlora.servers.treatment import Refused, Verdict, verdict
from prunedlora.sizes import Size
from prunedlora.trial.assets import Skeleton
from prunedlora.trial.planned_sizes import FLOAT32_BYTES, layers_key
from prunedlora.trial.start import names_to_adapt, start_of

BASES = {Base.QUANTIZED: "quantised", Base.GGUF: "GGUF"}


class ServeOnError(ValueError):
    """A server of `serve_on` that serves nothing right of what the sweep can leave; the message says why."""


@dataclass(frozen=True)
class Trained:
    """A training that a sweep may make."""

    where: str
    """What it is called in a message; "": the base."""
    config: TrialConfig
    shape: AdapterShape
    """Of its adapter as it starts, all ranks 1."""


def planned_shape(trial: TrialConfig, skeleton: Skeleton) -> AdapterShape | None:
    """What servers look at of the trial's adapter, all ranks 1; None for full fine-tuning. Raises TargetError."""
    if trial.adapter is None:
        return None
    model: PreTrainedModel = skeleton.model
    heads, modules = resolve_head(model, trial.head_modules), dict(model.named_modules())
    names = names_to_adapt(trial, skeleton, start_of(trial))
    base = Base.QUANTIZED if trial.model.quantization else Base.GGUF if trial.model.gguf_file else Base.PLAIN
    return AdapterShape(
        Kind.TRAINED,
        dict.fromkeys(names, 1),
        _widths(model, heads, names),
        head_params=sum(parameter.numel() for head in heads for parameter in modules[head].parameters()),
        model_type=model.config.model_type,
        base=base,
        head_names=tuple(trial.head_modules),
    )


def _widths(model: PreTrainedModel, heads: Sequence[str], names: Sequence[str]) -> Widths | None:
    """As records have them: linear layers outside of the heads, and the embeddings among `names`."""
    if (served := served_layers(model)) is None:
        return None
    inside = tuple(f"{head}." for head in heads)
    linear = {name: widths for name, widths in served.linear.items() if not f"{name}.".startswith(inside)}
    return linear | {name: widths for name, widths in served.embeddings.items() if name in names}


def check_servers(serve_on: Sequence[str], trained: Sequence[Trained], planner: Planner) -> list[str]:
    """Warnings: servers that serve nothing right of what some of these trainings leave. `planner`: of sizes as trained.

    Raises ServeOnError for a server that serves nothing right of what any of them leaves, naming what would be right.
    """
    warnings = []
    for name in serve_on:
        if find_spec("gguf") is None and any(takes_gguf(name, each.shape) for each in trained):
            raise ServeOnError(
                f"serve_on {name!r}: {SERVERS[name].title} takes adapters as GGUF files, which need the package gguf: "
                "pip install 'prunedlora[gguf]'"
            )
        reasons = [(each, why) for each in trained if (why := _refusal(name, each, planner)) is not None]
        if not reasons:
            continue
        first, why = reasons[0]
        told = f"serve_on {name!r}: {SERVERS[name].title} {why}"
        if len(reasons) == len(trained):
            raise ServeOnError(f"{told}; so it would serve no adapter of this sweep. {_instead(name, first)}")
        where = first.where or "the base trial"
        warnings.append(
            f"{told} ({where}{'' if len(reasons) == 1 else f' and {len(reasons) - 1} more'}): no adapter of such "
            "trainings is recommended"
        )
    return warnings


def takes_gguf(name: str, shape: AdapterShape) -> bool:
    """Whether the smallest form that the server applies as it was trained is a GGUF file."""
    form = adapter_form(shape, name)
    return not isinstance(form, Refused) and form.kind == Kind.GGUF


def served_planner(planner: Planner, shapes: Mapping[str, AdapterShape], serve_on: Sequence[str]) -> Planner:
    """As `planner`, its sizes such as these servers need. `shapes`: of `planned_shape`, by `layers_key`.

    The least is what was planned as trained where nothing is certain: a server needs no less.
    """
    if not serve_on:
        return planner

    def plan(config: TrialConfig) -> Sequence[PlannedSize]:
        shape, planned = shapes.get(layers_key(config)), planner(config)
        return planned if shape is None else [served_plan(one, shape, serve_on) for one in planned]

    return plan


def served_plan(planned: PlannedSize, shape: AdapterShape, serve_on: Sequence[str]) -> PlannedSize:
    """A planned candidate of an adapter of this shape, in the size that the servers need."""
    (least, most), params = planned.bounds[Size.MAX_RANK], planned.bounds[Size.ADAPTER_PARAMS]
    start = _of_rank(shape, 1).num_params
    if start is None or not most:
        return planned
    # All layers of one rank have as many parameters as no others of that largest rank.
    is_certain = least == most and params[0] == params[1] == least * start
    looked_at = _of_rank(shape, int(most)) if is_certain else _worst(shape, int(most))
    bounds = dict(planned.bounds)
    for name in serve_on:
        form = adapter_form(looked_at, name)
        if isinstance(form, Refused) or form.kind is not Kind.UNIFORM:
            continue
        padded = _of_rank(shape, int(most)).uniform(form.rank)
        assert padded is not None
        assert padded.num_params is not None  # widths are known: `start` is
        slot = served_slot(form.rank)
        for axis, size in {
            Size.ADAPTER_PARAMS.value: float(padded.num_params),
            Size.ADAPTER_BYTES.value: float(padded.num_params * FLOAT32_BYTES),
            Size.MAX_RANK.value: float(form.rank),
            Size.SERVED_SLOT.value: math.inf if slot is None else float(slot),
        }.items():
            low, high = bounds[axis]
            bounds[axis] = max(low, size) if is_certain else low, max(high, size)
    return replace(planned, bounds=bounds)


def _refusal(name: str, each: Trained, planner: Planner) -> str | None:
    """What the server has against all that is planned, in the smallest rank that it may come to; None where it serves
    something."""
    ranks = {int(one.bounds[Size.MAX_RANK][0]) for one in planner(each.config)} or {1}
    forms = [adapter_form(_of_rank(each.shape, max(1, rank)), name) for rank in sorted(ranks)]
    refused = [form.why for form in forms if isinstance(form, Refused)]
    return refused[0] if len(refused) == len(forms) else None


def _instead(name: str, each: Trained) -> str:
    server = SERVERS[name]
    if server.kinds == (Kind.MERGED,) and each.shape.base in BASES:
        kept = f"into {BASES[each.shape.base]} weights nothing is merged exactly"
        return f"It takes merged models, and {kept}: take the original model, or leave {name!r} out of serve_on"
    merged = in_form(each.shape, Kind.MERGED, server)
    if merged is not None and verdict(server.treat(merged)) is Verdict.RIGHT:
        return f"Leave {name!r} out of serve_on: it serves the merged model (`prunedlora export --merge`)"
    return f"Leave {name!r} out of serve_on"


def _of_rank(shape: AdapterShape, rank: int) -> AdapterShape:
    return replace(shape, ranks=dict.fromkeys(shape.ranks, rank))


def _worst(shape: AdapterShape, rank: int) -> AdapterShape:
    """Of this largest rank: the second layer is gone and the others have rank 1, where there are so many."""
    names = list(shape.ranks)
    kept = [name for number, name in enumerate(names) if number != 1]
    return replace(shape, ranks={name: rank if number == 0 else 1 for number, name in enumerate(kept)})
