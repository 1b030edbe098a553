"""Sizes of an adapter as the servers that it is for need it: each in the smallest form that it applies as trained.

What a server takes merged alone (MLX) adds nothing: a merged model is as large whatever the adapter is. Nobody who asks
for a server of adapters is given a merged model for one: what it takes in no form of an adapter is refused.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf

from prunedlora.results.analysis.shape_of import shape_of
from prunedlora.results.record import Candidate, ObjectiveError, TrialRecord
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.known import SERVERS, served_form
from prunedlora.servers.served_slot import served_slot
from prunedlora.servers.treatment import Refused
from prunedlora.sizes import SIZES, Size

FORM_WORDS: Mapping[Kind, str] = {
    Kind.TRAINED: "a PEFT folder of the trained ranks",
    Kind.UNIFORM: "a PEFT folder of one rank",
    Kind.GGUF: "GGUF of the trained ranks",
    Kind.MERGED: "merged into the base model, which adds nothing to sizes",
}


def recorded_sizes(candidate: Candidate) -> dict[str, float]:
    """Axis → size as it was trained; infinite of a served slot where none holds it, and left out where a size is not on
    record."""
    sizes = {name: getattr(candidate, name) for name in SIZES}
    if candidate.served_slot is None:
        sizes |= {Size.SERVED_SLOT.value: inf, Size.SERVED_SLOT_BYTES.value: inf}
    return {name: float(size) for name, size in sizes.items() if size is not None}


def served_sizes(record: TrialRecord, candidate: Candidate, serve_on: Sequence[str]) -> Mapping[str, float] | Refused:
    """Axis → size, the largest over the servers, as `recorded_sizes` where they need nothing but what was trained; or
    what the first that serves it in no form has against it.

    `serve_on`: names of servers.known.SERVERS; none: as recorded. Bytes are those measured and the zeros added, in the
    file's own bytes of a number; a GGUF file of the trained ranks counts as what was measured. An adapter without a
    rank above 0 needs no server.
    """
    recorded = recorded_sizes(candidate)
    if not serve_on or not any(candidate.ranks.values()):
        return recorded
    largest = recorded
    for name, form in forms_of(record, candidate, serve_on).items():
        if isinstance(form, Refused):
            return Refused(f"{SERVERS[name].title}: {form.why}")
        if form.kind is Kind.UNIFORM:
            sizes = _padded(recorded, form)
            largest = {axis: max(size, sizes[axis]) for axis, size in largest.items()}
    return largest


def objective_on(record: TrialRecord, candidate: Candidate, name: str, serve_on: Sequence[str]) -> float:
    """As `Candidate.objective`, a size as these servers need it. Raises ObjectiveError where there is none: it is not
    on record, no slot holds it, or one of the servers serves it right in no form."""
    if name not in SIZES or not serve_on:
        return candidate.objective(name)
    sizes = served_sizes(record, candidate, serve_on)
    if isinstance(sizes, Refused):
        raise ObjectiveError(f"{record.key}@{candidate.name} is served right in no form by {sizes.why}")
    if sizes.get(name) == inf:
        raise ObjectiveError(f"objective {name!r} of {record.key}@{candidate.name} has no value: no slot holds it")
    return sizes[name] if name in sizes else candidate.objective(name)


def forms_of(record: TrialRecord, candidate: Candidate, serve_on: Iterable[str]) -> dict[str, AdapterShape | Refused]:
    """Server → the smallest form that it applies as trained, or what it has against all. Raises ValueError for a
    candidate without an adapter."""
    shape = shape_of(record, candidate)
    return {name: adapter_form(shape, name) for name in serve_on}


def one_of_each_form(record: TrialRecord, candidate: Candidate, serve_on: Sequence[str]) -> list[str]:
    """Of servers that take the same form, the first."""
    found: dict[object, str] = {}
    if serve_on and any(candidate.ranks.values()):
        for name, form in forms_of(record, candidate, serve_on).items():
            found.setdefault(None if isinstance(form, Refused) else (form.kind, form.rank), name)
    return list(found.values())


def adapter_form(shape: AdapterShape, name: str) -> AdapterShape | Refused:
    """The same of one server, which is given a merged model only where it takes nothing else."""
    server = SERVERS[name]
    adapters = tuple(kind for kind in server.kinds if kind is not Kind.MERGED)
    return served_form(shape, replace(server, kinds=adapters or server.kinds))


def refusals(candidates: Iterable[tuple[TrialRecord, Candidate]], serve_on: Sequence[str]) -> dict[str, Counter[str]]:
    """Server → what it has against adapters that it serves right in no form → how many of these; those of servers that
    serve all right are left out."""
    found: dict[str, Counter[str]] = {}
    for record, candidate in candidates:
        if serve_on and any(candidate.ranks.values()):
            for name, form in forms_of(record, candidate, serve_on).items():
                if isinstance(form, Refused):
                    found.setdefault(name, Counter())[form.why] += 1
    return found


def _padded(recorded: Mapping[str, float], form: AdapterShape) -> dict[str, float]:
    """Sizes of the uniform form of what has these as it was trained."""
    assert form.num_params is not None  # without widths there is no such form
    params, number_bytes = recorded[Size.ADAPTER_PARAMS], recorded[Size.ADAPTER_BYTES] / recorded[Size.ADAPTER_PARAMS]
    slot = served_slot(form.rank)
    sizes = {
        **recorded,
        Size.ADAPTER_PARAMS.value: float(form.num_params),
        Size.ADAPTER_BYTES.value: form.num_params * number_bytes,
        Size.FILE_BYTES.value: recorded[Size.FILE_BYTES] + (form.num_params - params) * number_bytes,
        Size.MAX_RANK.value: float(form.rank),
        Size.SERVED_SLOT.value: inf if slot is None else float(slot),
    }
    if (of_slot := recorded.get(Size.SERVED_SLOT_BYTES)) is not None:  # in proportion to the slot's rank
        sizes[Size.SERVED_SLOT_BYTES.value] = of_slot * sizes[Size.SERVED_SLOT] / recorded[Size.SERVED_SLOT]
    return sizes
