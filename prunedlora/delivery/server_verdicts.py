"""What every server makes of an adapter, in the form that it is handed over in and in those that it could be."""

from collections.abc import Iterator
from typing import Any

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.commands import servings
from prunedlora.servers.example_request import ExampleRequest
from prunedlora.servers.handed import Handed
from prunedlora.servers.known import SERVERS, Server, in_form
from prunedlora.servers.said import why
from prunedlora.servers.treatment import Treatment, Verdict, verdict

RIGHT = (Verdict.RIGHT, Verdict.RIGHT_IF)


def is_right(treatment: Treatment) -> bool:
    """Whether it is applied as it was trained, if only under a condition."""
    return verdict(treatment) in RIGHT


def export_flags(form: AdapterShape, trained: AdapterShape) -> str:
    """What `prunedlora export` is told for this form of an adapter; empty for its trained ranks."""
    match form.kind:
        case Kind.TRAINED:
            return ""
        case Kind.UNIFORM:
            return "--uniform" if form.rank == trained.rank else f"--uniform-rank {form.rank}"
        case Kind.GGUF:
            return "--gguf"
        case Kind.MERGED:
            return "--merge"


def other_forms(
    server: Server, trained: AdapterShape, handed: AdapterShape
) -> Iterator[tuple[AdapterShape, Treatment]]:
    """The server's other forms of the adapter, the smallest first, and what it does with each. One of the handed form's
    kind is among them where the server needs another rank."""
    for kind in server.kinds:
        form = in_form(trained, kind, server)
        if form is not None and (kind != handed.kind or form.ranks != handed.ranks):
            yield form, server.treat(form)


def served_otherwise(server: Server, trained: AdapterShape, handed: AdapterShape) -> AdapterShape | None:
    """The smallest other form that it applies right; None where there is none."""
    return next((form for form, found in other_forms(server, trained, handed) if is_right(found)), None)


def server_documents(trained: AdapterShape, handed: Handed, request: ExampleRequest) -> dict[str, Any]:
    """Name of the server → form → verdict, and how it is served so, as plain JSON data. Forms that could be exported
    instead say by which flags; where the server needs another rank than that handed over, it stands under
    `<form> <rank>`."""
    documents: dict[str, Any] = {}
    for name, server in SERVERS.items():
        found = server.treat(handed.shape)
        forms = {
            handed.shape.kind.value: _verdict(found) | (_commands(name, handed, request) if is_right(found) else {})
        }
        for form, other in other_forms(server, trained, handed.shape):
            key = form.kind.value if form.kind != handed.shape.kind else f"{form.kind.value} {form.rank}"
            forms[key] = _verdict(other) | {"export": export_flags(form, trained)}
        documents[name] = forms
    return documents


def _verdict(treatment: Treatment) -> dict[str, Any]:
    return {"verdict": verdict(treatment).value, "why": why(treatment)}


def _commands(name: str, handed: Handed, request: ExampleRequest) -> dict[str, Any]:
    documents = [
        {
            "program": serving.title,
            "prepare": list(serving.prepare),
            "command": serving.start,
            "load": list(serving.load),
            "request": serving.request,
            "note": serving.note,
        }
        for serving in servings(name, handed, request)
    ]
    if not documents:
        return {}
    return documents[0] | ({"others": documents[1:]} if len(documents) > 1 else {})
