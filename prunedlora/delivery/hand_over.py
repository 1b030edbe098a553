"""An exported adapter as servers' rules and commands see it, by its record."""

import re

from prunedlora.config.identity import looks_local
from prunedlora.delivery.base_words import PACKAGE, base_word, shown_name
from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_chat import recorded_chat
from prunedlora.delivery.recorded_request import own_template, starts_bare
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.results.analysis.shape_of import shape_of
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.handed import BaseModel, Handed


def handed_shape(trained: AdapterShape, form: Form) -> AdapterShape:
    """An adapter of its trained ranks in the form that it is handed over in."""
    if form.merged:
        return trained.of_kind(Kind.MERGED)
    if form.gguf:
        return trained.of_kind(Kind.GGUF)
    if form.rank is None:
        return trained
    padded = trained.uniform(form.rank)
    assert padded is not None  # Form.check refuses it
    return padded


def hand_over(record: TrialRecord, candidate: Candidate, form: Form, hub: str | None) -> Handed:
    """What lies in its folder, or at `hub` (OWNER/NAME). Raises ValueError for a candidate without a layer."""
    model, facts = recorded_trial(record).model, record.environment.model
    dtype = facts.get("dtype")
    return Handed(
        handed_shape(shape_of(record, candidate), form),
        re.sub(r"[^\w.-]", "-", f"{record.key}-{candidate.name}"),
        BaseModel(
            shown_name(model.name, hub),
            base_word(model.name, hub),
            is_local=model.name.startswith(PACKAGE) or looks_local(model.name),
            revision=model.revision,
            dtype=dtype if model.quantization is None and isinstance(dtype, str) else None,
            gguf_file=model.gguf_file,
        ),
        hub,
        own_template(recorded_chat(record), form),
        starts_bare(record),
    )
