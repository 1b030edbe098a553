"""What servers' rules look at of a stored adapter."""

from typing import Any

from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind


def shape_of(record: TrialRecord, candidate: Candidate) -> AdapterShape:
    """The adapter with the ranks that it was trained to, layers of rank 0 left out, as files have it.

    Names of the modules that were trained whole, and the base model's type, are those that the record has: (), None in
    older ones. Raises ValueError for a candidate without an adapter: full fine-tuning, and one whose ranks are all 0.
    """
    ranks = {name: rank for name, rank in candidate.ranks.items() if rank}
    if not ranks:
        raise ValueError(f"{record.key}@{candidate.name} has no adapter: no layer has a rank above 0")
    facts = record.environment.model
    return AdapterShape(
        Kind.TRAINED,
        ranks,
        record.layer_widths,
        head_params=candidate.head_params,
        model_type=_text(facts.get("model_type")),
        base=_base(record.config),
        is_classifier=_is_classifier(record.config),
        head_names=_head_names(record.config) if candidate.head_params else (),
    )


def _base(config: dict[str, Any]) -> Base:
    model = config.get("model") or {}
    if model.get("quantization") is not None:
        return Base.QUANTIZED
    return Base.PLAIN if model.get("gguf_file") is None else Base.GGUF


def _is_classifier(config: dict[str, Any]) -> bool:
    return bool((config.get("data") or {}).get("task") == "text_classification")


def _head_names(config: dict[str, Any]) -> tuple[str, ...]:
    """As the configuration names them, which is by full name or ending."""
    return tuple((config.get("adapter") or {}).get("head_modules") or ())


def _text(fact: object) -> str | None:
    return fact if isinstance(fact, str) else None
