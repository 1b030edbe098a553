"""Candidates of a store on the test split: each measured once, what was measured before is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from rich.console import Console

from prunedlora.adapters.verify import VerificationError
from prunedlora.config.pins import pinned
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import StoredAdapterError
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.tested import TEST_FILE, on_test, read_test
from prunedlora.results.record import BaseReference, Candidate, ExampleOutcomes, Figure, TrialRecord, from_json, to_json
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.candidates import recorded

BASE_FILE = "base_test.json"
"""In the store: the base model on the test split."""


@dataclass
class Examiner:
    """Measures in this process, and remembers what it had to refuse."""

    store: Store
    device: torch.device
    console: Console
    refused: dict[str, str] = field(default_factory=dict)
    """Name of an adapter that is damaged, or not the same in plain PEFT → why."""

    def __post_init__(self) -> None:
        self._assets, self._workers = AssetCache(self.device), Workers(0, 1, self.device)

    def figures(self, name: str, record: TrialRecord, candidate: Candidate) -> dict[str, Figure] | None:
        """The candidate's test figures; None, said under its `name`, where its adapter is refused. Unsaid where it has
        none: no component is left, or it was deleted."""
        if candidate.adapter_path is None:
            return None
        store = self.store
        path = store.trial_path(record.key, candidate.adapter_path, TEST_FILE)
        if not store.storage.exists(path):
            trial = recorded_trial(record)  # what it trained on: a branch on the Hub may have moved since
            try:
                measure_test(trial, record.key, candidate.name, store=store, assets=self._assets, workers=self._workers)
            except (StoredAdapterError, VerificationError) as error:
                self.refused[name] = str(error)
                print_plain(self.console, f"{name}: refused, in no mean: {error}")
                return None
        return read_test(store, path).figures

    def outcomes(self, tested: Sequence[tuple[TrialRecord, Candidate]]) -> list[ExampleOutcomes | None]:
        """What these did on each test example; None of what was tested before that was kept."""
        return self.store.read_many_outcomes([(record.key, on_test(candidate.name)) for record, candidate in tested])

    def base_figures(self, trial: TrialConfig) -> dict[str, Figure]:
        """The untrained base model's figures on the test split, as candidates are tested; measured once for a store."""
        storage = self.store.storage
        text = storage.read_text(BASE_FILE)
        if text is None:
            loaded = self._assets.get(pinned(trial, self.store.binding.read_commits()))
            outcomes = evaluate(
                loaded.base.model,
                loaded.task,
                loaded.test,
                batch_size=trial.evaluation.batch_size,
                dtype=loaded.base.dtype,
                workers=self._workers,
            )
            text = to_json(BaseReference(figures=recorded(figures(outcomes))))
            storage.write_text(BASE_FILE, text)
        return from_json(BaseReference, text, storage.uri_of(BASE_FILE)).figures
