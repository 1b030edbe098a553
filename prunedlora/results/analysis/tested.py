"""Tested: what adapters of a store did on the test split, which the search never sees, as it lies beside each."""

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.record import Candidate, Figure, RecordError, TrialRecord, json_object
from prunedlora.results.store import Store

TEST_FILE = "test.json"
"""Beside an adapter that was measured (delivery/candidate_test.py)."""


def on_test(candidate: str) -> str:
    """Under which name a candidate's outcomes by example on the test split are kept, beside those on validation."""
    return f"{candidate}-test"


def path_of_test(store: Store, record: TrialRecord, candidate: Candidate) -> str | None:
    """Where a candidate's test figures lie in the store, or would; None for one without an adapter file."""
    return candidate.adapter_path and store.trial_path(record.key, candidate.adapter_path, TEST_FILE)


def tested(store: Store, points: Iterable[Point]) -> dict[str, dict[str, Figure]]:
    """Name → figures of those points that were measured on the test split. Raises RecordError for a broken file."""
    placed = [(point.name, path) for point in points if (path := path_of_test(store, point.record, point.candidate))]
    texts = store.storage.read_texts([path for _, path in placed])
    return {
        name: _parsed(text, store.storage.uri_of(path))[0]
        for (name, path), text in zip(placed, texts, strict=True)
        if text is not None
    }


def original_test(store: Store, record: TrialRecord) -> dict[str, Figure] | None:
    """Test figures of the adapter that a training began with; None where it was not measured there, or is none of its
    candidates. Raises RecordError for a broken file."""
    original = next((candidate for candidate in record.candidates if candidate.is_original), None)
    path = None if original is None else path_of_test(store, record, original)
    text = None if path is None else store.storage.read_text(path)
    return None if path is None or text is None else _parsed(text, store.storage.uri_of(path))[0]


def read_test_figures(store: Store, path: str) -> dict[str, Figure]:
    """Figures of the TEST_FILE at `path` in the store. Raises RecordError when it is not there or broken."""
    return read_test(store, path)[0]


def read_test(store: Store, path: str) -> tuple[dict[str, Figure], dict[str, Any]]:
    """All of the TEST_FILE at `path` in the store: figures, and what was checked of the adapter. Raises RecordError
    when it is not there or broken."""
    text, where = store.storage.read_text(path), store.storage.uri_of(path)
    if text is None:
        raise RecordError(f"{where}: the test evaluation left no figures")
    return _parsed(text, where)


def _parsed(text: str, where: str) -> tuple[dict[str, Figure], dict[str, Any]]:
    content = json_object(text, where)
    try:
        figures = TypeAdapter(dict[str, Figure]).validate_python(content.get("figures"))
    except ValidationError as error:
        raise RecordError(f"{where}: no figures: {error}") from error
    try:
        return figures, TypeAdapter(dict[str, Any]).validate_python(content.get("certificate"))
    except ValidationError as error:
        raise RecordError(f"{where}: no certificate: {error}") from error
