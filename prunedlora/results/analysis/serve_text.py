"""What the servers that adapters are for mean for sizes and for one adapter, in words and as plain data."""

from collections.abc import Sequence
from math import inf
from typing import Any

from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.analysis.served_size import FORM_WORDS, forms_of, served_sizes
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused
from prunedlora.sizes import SIZES


def titles_text(serve_on: Sequence[str]) -> str:
    """ "vLLM", "vLLM and MLX", "vLLM, SGLang and MLX" """
    *most, last = (SERVERS[name].title for name in serve_on)
    return f"{', '.join(most)} and {last}" if most else last


def as_served(objectives: Objectives) -> str:
    """What to say behind an axis of sizes: ", as vLLM and MLX need it"; empty where sizes are as trained."""
    return f", as {_need(objectives.serve_on)} it" if objectives.serve_on else ""


def _need(serve_on: Sequence[str]) -> str:
    return f"{titles_text(serve_on)} need{'s' if len(serve_on) == 1 else ''}"


def serve_sentences(summary: Summary, point: Point) -> list[str]:
    """In which form each server takes an adapter, how large that is, and how many others are served right in none; none
    where the sizes are those that were trained."""
    servers = summary.objectives.serve_on
    if not servers or not any(point.candidate.ranks.values()):
        return []
    forms: dict[str, list[str]] = {}
    for name, form in forms_of(point.record, point.candidate, servers).items():
        assert not isinstance(form, Refused)  # it would be no point
        forms.setdefault(FORM_WORDS[form.kind], []).append(name)
    told = "; ".join(f"{words} for {titles_text(names)}" for words, names in forms.items())
    return [
        f"Sizes are as {_need(servers)} them: of this adapter {told}"
        f"{'' if is_as_trained(point) else f'; {params_text(point)}'}.",
        *filter(None, [refused_by_text(summary)]),
    ]


def refused_by_text(summary: Summary) -> str:
    """How many adapters are served right in no form, by which server and why; empty where there are none such."""
    num = len(summary.with_adapter)
    return " ".join(
        f"{sum(reasons.values()):,} of {num:,} adapters are served right in no form by {SERVERS[name].title}: "
        f"{', '.join(f'{why} ({count:,})' if len(reasons) > 1 else why for why, count in reasons.most_common())}."
        for name, reasons in summary.refusals.items()
    )


def is_as_trained(point: Point) -> bool:
    """Whether the servers need no more parameters than were trained."""
    return point.size_on("adapter_params") == point.candidate.adapter_params


def params_text(point: Point) -> str:
    """ "1,024 parameters", "1,024 parameters (4,096 as served)" """
    served = "" if is_as_trained(point) else f" ({point.size_on('adapter_params'):,.0f} as served)"
    return f"{point.candidate.adapter_params:,} parameters{served}"


def serve_columns(record: TrialRecord, candidate: Candidate, serve_on: Sequence[str]) -> dict[str, Any]:
    """Columns of a candidate's row: `form_<server>`, the kind of its form or what the server has against it, and
    `served_<axis>`, None where it has no such size; none where the sizes are those that were trained."""
    if not serve_on or not any(candidate.ranks.values()):
        return {}
    forms = forms_of(record, candidate, serve_on)
    sizes = served_sizes(record, candidate, serve_on)
    found = {} if isinstance(sizes, Refused) else sizes
    return {
        **{f"form_{name}": _form_word(form) for name, form in forms.items()},
        **{f"served_{axis}": None if found.get(axis, inf) == inf else found[axis] for axis in SIZES},
    }


def _form_word(form: Any) -> str:
    return f"refused: {form.why}" if isinstance(form, Refused) else form.kind.value


def form_kinds(point: Point, serve_on: Sequence[str]) -> dict[str, str]:
    """Server → the kind of the form in which it takes an adapter (servers.adapter_shape.Kind)."""
    if not serve_on or not any(point.candidate.ranks.values()):
        return {}
    return {name: _form_word(form) for name, form in forms_of(point.record, point.candidate, serve_on).items()}


def serve_document(summary: Summary) -> dict[str, Any]:
    """As plain JSON data: the servers, and of each what it has against adapters → how many; empty where the sizes are
    those that were trained."""
    if not summary.objectives.serve_on:
        return {}
    return {
        "serve_on": [*summary.objectives.serve_on],
        "served_by_none": {name: dict(found) for name, found in summary.refusals.items()},
    }
