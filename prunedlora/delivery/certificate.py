"""The certificate of an exported adapter: what was checked, measured and found out, as plain JSON data."""

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from prunedlora.delivery.form import Form
from prunedlora.delivery.hand_over import hand_over
from prunedlora.delivery.origin import origin_document
from prunedlora.delivery.recorded_chat import CHAT_FACT
from prunedlora.delivery.recorded_request import recorded_request, request_document
from prunedlora.delivery.server_verdicts import server_documents
from prunedlora.results.analysis.shape_of import shape_of
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.report.told import Told
from prunedlora.servers.served_slot import HALF_BYTES, slot_bytes

CERTIFICATE_FILE = "certificate.json"
UNTESTED: Mapping[str, Figure] = MappingProxyType({})


def certificate(
    record: TrialRecord,
    candidate: Candidate,
    checks: dict[str, Any],
    form: Form,
    test: Mapping[str, Figure] = UNTESTED,
    began: Mapping[str, Figure] = UNTESTED,
    told: Told | None = None,
    hub: str | None = None,
) -> dict[str, Any]:
    """What is known of it. `test` and `began`: figures on the test split, of it and of the adapter that its training
    began with; `told`: what the decision of its sweep says of it, None where that does not know it; `hub`: OWNER/NAME
    on the Hub where it will lie, None: in its folder."""
    slot = None if form.merged else form.slot_of(candidate)
    return {
        "candidate": f"{record.key}@{candidate.name}",
        "rung": candidate.rung,
        "branch_steps": candidate.branch_steps,
        "cut": None if candidate.cut is None else candidate.cut.model_dump(),
        "origin": origin_document(record, candidate, began),
        "form": asdict(form),
        "checks": checks,
        "figures": {name: figure.model_dump() for name, figure in sorted(candidate.figures.items())},
        "test": {name: figure.model_dump() for name, figure in sorted(test.items())},
        "decision": None if told is None else told.document,
        "ranks": candidate.ranks,
        "adapter_params": candidate.adapter_params,
        "head_params": candidate.head_params,
        "max_rank": candidate.max_rank,
        "served_slot": slot,
        "served_slot_bytes": _slot_bytes(record, slot),
        "chat": record.environment.data.get(CHAT_FACT),
        "request": request_document(record, form),
        "servers": _servers(record, candidate, form, hub),
        "config": record.config,
        "environment": record.environment.model_dump(mode="json"),
    }


def _slot_bytes(record: TrialRecord, slot: int | None) -> int | None:
    """GPU memory of vLLM's slot; None when no slot holds the adapter or the record does not say."""
    return None if slot is None or record.layer_widths is None else slot_bytes(record.layer_widths, slot, HALF_BYTES)


def _servers(record: TrialRecord, candidate: Candidate, form: Form, hub: str | None) -> dict[str, Any] | None:
    """None for an adapter without a layer."""
    if not candidate.max_rank:
        return None
    handed = hand_over(record, candidate, form, hub)
    return server_documents(shape_of(record, candidate), handed, recorded_request(record))
