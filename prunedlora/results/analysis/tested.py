"""Tested: what adapters of a store did on the test split, which the search never sees, as it lies beside each."""

from collections.abc import Iterable

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.record import Candidate, Document, Figure, Json, RecordError, TrialRecord
from prunedlora.results.store import Store

TEST_FILE = "test.json"
"""Beside an adapter that was measured (delivery/candidate_test.py)."""


class OnTest(Document):
    """The content of a TEST_FILE."""

    figures: dict[str, Figure]
    certificate: dict[str, Json]
    """What was checked of the adapter."""


def on_test(candidate: str) -> str:
    """Under which name a candidate's outcomes by example on the test split are kept, beside those on validation."""
    return f"{candidate}-test"


def path_of_test(store: Store, record: TrialRecord, candidate: Candidate) -> str | None:
    """Where a candidate's test figures lie in the store, or would; None for one without an adapter file."""
    return candidate.adapter_path and store.trial_path(record.key, candidate.adapter_path, TEST_FILE)


def tested(store: Store, points: Iterable[Point]) -> dict[str, dict[str, Figure]]:
    """Name → figures of those points that were measured on the test split. Raises RecordError for a broken file."""
    placed = [(point.name, path) for point in points if (path := path_of_test(store, point.record, point.candidate))]
    found = store.read_documents(OnTest, [path for _, path in placed])
    return {name: one.figures for (name, _), one in zip(placed, found, strict=True) if one is not None}


def original_test(store: Store, record: TrialRecord) -> dict[str, Figure] | None:
    """Test figures of the adapter that a training began with; None where it was not measured there, or is none of its
    candidates. Raises RecordError for a broken file."""
    original = next((candidate for candidate in record.candidates if candidate.is_original), None)
    path = None if original is None else path_of_test(store, record, original)
    found = None if path is None else store.read_document(OnTest, path)
    return None if found is None else found.figures


def read_test(store: Store, path: str) -> OnTest:
    """The TEST_FILE at `path` in the store. Raises RecordError when it is not there or broken."""
    found = store.read_document(OnTest, path)
    if found is None:
        raise RecordError(f"{store.storage.uri_of(path)}: the test evaluation left no figures")
    return found
