"""Named candidates of a store on the test split, in one process: each measured once, and read ever after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from prunedlora.config.identity import contents
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import adapter_path
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.analysis.tested import TEST_FILE, read_test
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.trial.assets import AssetCache


@dataclass(frozen=True)
class TestedCandidate:
    name: str
    validation: dict[str, Figure]
    test: dict[str, Figure]
    is_new: bool
    """Whether it was measured now."""


def measure_tests(
    store: Store, names: Sequence[str], device: torch.device, on_start: Callable[[str], None]
) -> list[TestedCandidate]:
    """Measures what was not measured, after all names, adapters and data were looked for. `on_start`: is told a name.

    Raises:
        UnknownCandidateError: no such candidate.
        StoredAdapterError: its adapter is gone or damaged.
        VerificationError: it gives other logits once it is merged.
        LocationError, StoreError: models or data are gone, or are not what they were.
        NodeError: they cannot be loaded here.
    """
    found: dict[str, tuple[TrialRecord, Candidate, str]] = {}
    for each in names:
        record, candidate = find_candidate(store, each)
        path = f"{adapter_path(store, record, candidate)}/{TEST_FILE}"
        found[f"{record.key}@{candidate.name}"] = record, candidate, path
    left = {name for name, (_, _, path) in found.items() if not store.storage.exists(path)}
    store.binding.check_contents(contents([recorded_trial(found[name][0]) for name in sorted(left)]))
    assets, workers, rows = AssetCache(device), Workers(0, 1, device), []
    for name, (record, candidate, path) in found.items():
        if name in left:
            on_start(name)
            trial = recorded_trial(record)
            measure_test(trial, record.key, candidate.name, store=store, assets=assets, workers=workers)
        rows.append(TestedCandidate(name, candidate.figures, read_test(store, path).figures, name in left))
    return rows
