"""What lm-evaluation-harness measured on an adapter of a store after its sweep, beside the trial's record.

One file per candidate and settings, `trials/<key>/harness/<candidate>-<digest of the settings>.json`: measuring with
other tasks or limits adds a file, measuring again with the same replaces it.
"""

import hashlib
import json
from typing import Literal

from prunedlora.results.record import SCHEMA_VERSION, Document, Environment, Figure, Json, Key
from prunedlora.results.store import Store


class HarnessRun(Document):
    schema_version: Literal[2] = SCHEMA_VERSION
    key: Key
    candidate: str
    """Its name within the trial (Candidate.name)."""
    tasks: tuple[str, ...]
    """As they were asked for: names, or paths of task files and folders."""
    settings: dict[str, Json]
    """Examples in the prompt, limit, batch size, …"""
    figures: dict[str, Figure]
    """`harness/<task>/<metric>` → value, on the split that the task names."""
    environment: Environment


def write_harness(store: Store, run: HarnessRun) -> str:
    """Keeps a run and returns its path in the store."""
    asked = json.dumps([run.tasks, run.settings], sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
    path = store.trial_path(run.key, "harness", f"{run.candidate}-{digest}.json")
    store.write_document(path, run)
    return path


def read_harness(store: Store, key: str) -> list[HarnessRun]:
    """All runs on adapters of a trial, in the order of their files' names. Raises RecordError naming a broken file."""
    paths = [store.trial_path(key, "harness", name) for name in store.storage.names(store.trial_path(key, "harness"))]
    return [run for run in store.read_documents(HarnessRun, paths) if run is not None]
