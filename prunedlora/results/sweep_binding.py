"""What binds a store to its sweep: the settings and the contents that must stay as they were when it began.

In the store are contents.json, key_version.json, commits.json and data/<hash>.json (store.py).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from prunedlora.results.record import RecordError, json_object
from prunedlora.results.storage import Storage, StoreError

CONTENTS_FILE = "contents.json"
KEY_VERSION_FILE = "key_version.json"
COMMITS_FILE = "commits.json"
FIXED_FIELDS = ("objectives", "constraints", "trial", "space", "sampler", "seed", "telling")
"""Fields of a sweep that its store is bound to; all others may change between runs. Baselines too: they stand for
themselves, and what was trained stays on record. `telling` is the search's as sampler and seed are: asks that were made
by two ways of it would be those of neither, and could not be repeated."""
ABSENT: dict[str, Any] = {"constraints": {}, "telling": "last"}
"""What a field is of stores that were made before there was one."""
PERMISSIONS = {"trial.adapter.other_base"}
"""Settings within these that change no result, only what is refused."""


def differing_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per leaf of the fixed fields in which two sweeps differ, with its dotted path, was and is."""
    return [
        line
        for field in FIXED_FIELDS
        for line in _differences(
            field, plain(old.get(field, ABSENT.get(field))), plain(new.get(field, ABSENT.get(field)))
        )
    ]


def changed_contents(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of models and data, sorted, that both know (name → identity) and that are not the same any more."""
    now = plain(now)
    return sorted(name for name in known.keys() & now.keys() if known[name] != now[name])


def plain(value: Any) -> Any:
    """`value` as JSON would give it back: tuples as lists, keys as text."""
    return json.loads(json.dumps(value, allow_nan=False))


class Binding:
    """What a store remembers of its sweep's beginning. What is written is for the driver that holds the lock, but for
    fingerprints."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def is_bound(self) -> bool:
        """Whether something was asked or evaluated, so that the sweep must stay what it is."""
        storage = self._storage
        return bool(storage.names("asks") or storage.names("trials") or storage.exists("base.json"))

    def check_key_version(self, version: int) -> None:
        """Checks that this store's trials have their keys by the same `version` of what settings mean; writes nothing.

        Raises StoreError: a store of another version can be read, reported and exported, and not gone on with.
        """
        if not self.is_bound():
            return
        known = self._read(KEY_VERSION_FILE)
        # Stores of before there was the file are of version 1.
        found = 1 if known is None else known.get("key_version")
        if found != version:
            raise StoreError(
                f"{self._storage.uri} is of another version of prunedlora: its trials have keys of version {found}, "
                f"this one makes version {version}, and equal settings give other results (prunedlora/CHANGELOG.md). "
                "It can be read, reported, compared and exported as it is; to search, give another --storage"
            )

    def write_key_version(self, version: int) -> None:
        """Remembers by which version the trials have their keys."""
        self._storage.write_text(KEY_VERSION_FILE, json.dumps({"key_version": version}) + "\n")

    def check_contents(self, contents: Mapping[str, Any]) -> None:
        """Checks that models and data are what they were when the sweep began; writes nothing.

        `contents`: name in the configuration → identity, plain JSON. Raises StoreError naming those that changed:
        trials on other data must not stand on one front.
        """
        if self.is_bound() and (changed := changed_contents(self.read_contents(), contents)):
            raise StoreError(
                f"{self._storage.uri}: {', '.join(changed)} changed since this sweep began (files or package "
                "versions); put them back, or give another storage"
            )

    def write_contents(self, contents: Mapping[str, Any]) -> None:
        """Remembers what models and data are by content."""
        self._write(CONTENTS_FILE, contents)

    def read_contents(self) -> dict[str, Any]:
        """Name of a model or data source in the configurations → its identity; empty in stores of earlier versions."""
        return self._read(CONTENTS_FILE) or {}

    def write_commits(self, commits: Mapping[str, str | None]) -> None:
        """Remembers what names on the Hub stand for: name with revision → commit, None: the Hub did not tell."""
        self._write(COMMITS_FILE, commits)

    def read_commits(self) -> dict[str, str | None]:
        """Empty where nothing is named on the Hub, and in stores of earlier versions."""
        return self._read(COMMITS_FILE) or {}

    def write_fingerprint(self, data: Mapping[str, Any], fingerprint: str) -> None:
        """Remembers what the examples of a data section are: `data` as `DataConfig.model_dump` gives it, the revisions
        as the sweep's file has them, since a commit may be known in one run and not in another."""
        self._write(_fingerprint_path(data), {"data": data, "fingerprint": fingerprint})

    def read_fingerprint(self, data: Mapping[str, Any]) -> str | None:
        """None while nobody has loaded the examples of this section. Raises RecordError for a broken file."""
        path = _fingerprint_path(data)
        known = self._read(path)
        if known is None:
            return None
        fingerprint = known.get("fingerprint")
        if not isinstance(fingerprint, str):
            raise RecordError(f"{self._storage.uri_of(path)}: no fingerprint but {fingerprint!r}")
        return fingerprint

    def _read(self, path: str) -> dict[str, Any] | None:
        text = self._storage.read_text(path)
        return None if text is None else json_object(text, self._storage.uri_of(path))

    def _write(self, path: str, content: Mapping[str, Any]) -> None:
        self._storage.write_text(path, json.dumps(plain(content), indent=1, sort_keys=True) + "\n")


def _fingerprint_path(data: Mapping[str, Any]) -> str:
    canonical = json.dumps(plain(data), sort_keys=True, separators=(",", ":"))
    return f"data/{hashlib.sha256(canonical.encode()).hexdigest()[:16]}.json"


def _differences(field: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in _differences(f"{field}.{key}", old.get(key), new.get(key))]
    return [] if old == new or field in PERMISSIONS else [f"{field} was {json.dumps(old)}, is {json.dumps(new)}"]
