"""Settings of trials as flat dotted paths, for columns and hover texts."""

import json
from collections.abc import Iterable, Mapping, Sequence
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
    return _varying([flat(record.config) for record in records])


def _varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    paths = sorted({path for config in configs for path in config})
    return [path for path in paths if len({repr(config.get(path)) for config in configs}) > 1]


def telling(records: Iterable[TrialRecord]) -> list[str]:
    """Paths that tell trials apart, sorted: those whose value differs between records that have it, or between records
    of one method. What a method alone lacks is not among them: the method says it."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(method(record), []).append(flat(record.config))
    found = {path for group in groups.values() for path in _varying(group)}
    values: dict[str, set[str]] = {}
    for config in (config for group in groups.values() for config in group):
        for path, value in config.items():
            values.setdefault(path, set()).add(repr(value))
    return sorted(found | {path for path, seen in values.items() if len(seen) > 1})


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


def in_order(methods: Iterable[str]) -> list[str]:
    """Each method once, as charts number them: ours first, the others by name."""
    return sorted(set(methods), key=lambda name: (name != "prunedlora", name))
