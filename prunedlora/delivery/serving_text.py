"""Which servers apply an adapter as it was trained, and how each is started and asked, for its card."""

import textwrap

from prunedlora.delivery.form import Form
from prunedlora.delivery.hand_over import hand_over
from prunedlora.delivery.recorded_request import recorded_request, request_sentences
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.server_verdicts import export_flags, is_right, served_otherwise
from prunedlora.results.analysis.shape_of import shape_of
from prunedlora.results.figure_text import bytes_text
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.commands import servings
from prunedlora.servers.handed import Handed
from prunedlora.servers.known import SERVERS, Server
from prunedlora.servers.said import said
from prunedlora.servers.served_slot import HALF_BYTES, NUMBER_BYTES, served_slot, slot_bytes
from prunedlora.servers.serving_commands import Serving
from prunedlora.servers.treatment import Applied

CELL = 90
"""Most characters in a line of a table's cell."""
NO_SERVER = "No command is known that serves it: the code above does, with PEFT."
WHOLE = "It is a whole model and is served like its base, without any flags for adapters."
NOTHING = "It has no layer: there is nothing of it to serve."


def serving_text(record: TrialRecord, candidate: Candidate, form: Form, hub: str | None) -> str:
    """Markdown: a table of verdicts, then the commands for every server that is right for this form."""
    if not candidate.max_rank:
        return NOTHING
    handed, request = hand_over(record, candidate, form, hub), recorded_request(record)
    parts = [_table(shape_of(record, candidate), handed.shape)]
    sections = [
        _section(serving, handed)
        for name, server in SERVERS.items()
        if is_right(server.treat(handed.shape))
        for serving in servings(name, handed, request)
    ]
    if form.merged:
        parts.append(WHOLE)
    if not sections:
        return "\n\n".join(parts if form.gguf else [*parts, NO_SERVER])
    parts += [request_sentences(record), _base_sentence(record), *sections]
    return "\n\n".join(part for part in parts if part)


def _table(trained: AdapterShape, handed: AdapterShape) -> str:
    rows = ["| server | this folder | otherwise |", "|---|---|---|"]
    for server in SERVERS.values():
        found = server.treat(handed)
        other = None if is_right(found) else served_otherwise(server, trained, handed)
        rows.append(
            f"| {server.title} | {_cell(said(found))} | {'' if other is None else _otherwise(server, other, trained)} |"
        )
    told = "What each server makes of it, by its sources, and the form of `prunedlora export` that it applies right:"
    return f"{told}\n\n" + "\n".join(rows)


def _otherwise(server: Server, other: AdapterShape, trained: AdapterShape) -> str:
    flags, found = export_flags(other, trained), server.treat(other)
    needs = f", if {found.needs}" if isinstance(found, Applied) and found.needs is not None else ""
    return _cell(f"right {f'with `{flags}`' if flags else 'as trained'}{needs}")


def _cell(text: str) -> str:
    return "<br>".join(textwrap.wrap(text.replace("|", "\\|"), CELL, break_long_words=False))


def _section(serving: Serving, handed: Handed) -> str:
    lines = [*serving.prepare, serving.start]
    if serving.load:
        lines += ["", "# or into a server that runs already, which was started so:", *serving.load]
    if serving.request is not None:
        lines += ["", serving.request]
    block = "\n".join(["```bash", *lines, "```"])
    slot = _slot_sentence(handed) if serving.title == "vLLM" else ""
    return "\n\n".join(part for part in (f"### {serving.title}", block, serving.note or "", slot) if part)


def _slot_sentence(handed: Handed) -> str:
    """GPU memory of the slot (served_slot.py) in the type that the command says, or else in vLLM's own; empty where the
    record does not say, and for a whole model."""
    shape, dtype = handed.shape, handed.base.dtype
    slot = None if shape.kind == Kind.MERGED else served_slot(shape.rank)
    if slot is None or shape.widths is None:
        return ""
    size = slot_bytes(shape.widths, slot, HALF_BYTES if dtype is None else NUMBER_BYTES[dtype])
    return f"Its slot takes {bytes_text(size)} of GPU memory, in {'half precision' if dtype is None else dtype}."


def _base_sentence(record: TrialRecord) -> str:
    """What servers' base weights are beside those that figures were measured on, where they are others."""
    model, told = recorded_trial(record).model, []
    if model.quantization is not None:
        told.append(
            f"It was trained and measured on a base model in {model.quantization}, and these commands serve the "
            "original weights: figures may differ."
        )
    if model.gguf_file is not None:
        told.append(
            f"It was trained and measured on the weights of `{model.gguf_file}`, dequantised: with another file of the "
            "base, or its original weights, figures may differ."
        )
    if model.trust_remote_code:
        told.append("The base model has code of its own: add the server's `--trust-remote-code`.")
    if model.config_overrides:
        told.append(
            f"It was trained and measured with {model.config_overrides} in the base's configuration, which these "
            "commands do not set: without that a server serves another model."
        )
    return " ".join(told)
