"""What binds a store to its sweep: the settings and the contents that must stay as they were when it began."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FIXED_FIELDS = ("objectives", "trial", "space", "sampler", "seed")
"""Fields of a sweep that its store is bound to; all others may change between runs. Baselines too: they stand for
themselves, and what was trained stays on record."""


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per leaf of the fixed fields in which two sweeps differ, with its dotted path, was and is."""
    return [
        line for field in FIXED_FIELDS for line in _differences(field, plain(old.get(field)), plain(new.get(field)))
    ]


def changed_contents(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of models and data, sorted, that both know (name → identity) and that are not the same any more."""
    now = plain(now)
    return sorted(name for name in known.keys() & now.keys() if known[name] != now[name])


def fingerprint_path(data: Mapping[str, Any]) -> str:
    """Where in a store the fingerprint of a data section's examples is."""
    canonical = json.dumps(plain(data), sort_keys=True, separators=(",", ":"))
    return f"data/{hashlib.sha256(canonical.encode()).hexdigest()[:16]}.json"


def plain(value: Any) -> Any:
    """`value` as JSON would give it back: tuples as lists, keys as text."""
    return json.loads(json.dumps(value, allow_nan=False))


def _differences(field: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in _differences(f"{field}.{key}", old.get(key), new.get(key))]
    return [] if old == new else [f"{field} was {json.dumps(old)}, is {json.dumps(new)}"]
