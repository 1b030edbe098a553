"""Settings of trials as flat dotted paths, for columns and hover texts."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from prunedlora.results.record import TrialRecord

FULL = "full"
"""Method of a trial that fine-tuned all weights and has no adapter."""


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path → value; lists and empty mappings count as values."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def varying(records: Iterable[TrialRecord]) -> list[str]:
    """Paths whose value is not the same in all records, sorted; a path that some lack varies."""
    configs = [flat(record.config) for record in records]
    paths = sorted({path for config in configs for path in config})
    return [path for path in paths if len({repr(config.get(path)) for config in configs}) > 1]


def shown(value: Any) -> str:
    """A value as text: short floats, lists as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def chosen(record: TrialRecord, paths: Iterable[str]) -> dict[str, str]:
    """The record's values at `paths` as text, without those it has not or that are off (None)."""
    config = flat(record.config)
    return {path: shown(config[path]) for path in paths if config.get(path) is not None}


def method(record: TrialRecord) -> str:
    """Name of the method; "adapter" for a record whose configuration names none."""
    if record.config.get(FULL) is not None:
        return FULL
    adapter = record.config.get("adapter")
    return str(adapter.get("method", "adapter")) if isinstance(adapter, dict) else "adapter"
