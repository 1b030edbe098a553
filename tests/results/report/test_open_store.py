"""A store in a notebook: its tables say what the files say, with the types of what they hold."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunedlora
from prunedlora.results.analysis.decision import decide
from prunedlora.results.record import Cut, TrialRecord
from prunedlora.results.report.front_files import candidate_rows, csv_text, front_rows
from prunedlora.results.report.open_store import open_store
from prunedlora.results.report.verdict import sentences
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store

Make = Callable[..., Any]


@pytest.fixture
def store(fill: Make, record: Make, candidate: Make, failed: Make, cut: Callable[[int], Cut]) -> Store:
    """Rungs and a cut, a failed trial with a candidate, one without, settings that only some trials have."""
    made: list[TrialRecord] = [
        record("a1", candidate(0.9, 100, 10), candidate(0.95, 200, 20, rung=8), label="ours <b>"),
        record("b2", candidate(0.8, 50, 10, cut=cut(1), adapter_path=None), padding_share=0.25),
        failed("c3", candidate(0.7, 400, 10, served_slot=None)),
        failed("d4"),
    ]
    made[1] = made[1].model_copy(update={"config": made[1].config | {"pruning": {"target_rank": 2, "layers": ["q"]}}})
    return fill(*made)


@pytest.mark.parametrize(("table", "rows"), [("candidates", candidate_rows), ("front", front_rows)])
def test_tables_are_those_of_the_files(store: Store, table: str, rows: Callable[..., Any]) -> None:
    opened = open_store(store.uri)
    frame = getattr(opened, table)
    assert frame.to_csv(index=False) == csv_text(rows(opened.summary))
    assert list(frame.index) == [f"{key}@{name}" for key, name in zip(frame["key"], frame["candidate"], strict=True)]


def test_columns_have_the_types_of_their_values(store: Store) -> None:
    """An integer that some rows lack is no float, as pandas would have it."""
    types = {name: str(kind) for name, kind in open_store(store.uri).candidates.dtypes.items()}
    assert {name: types[name] for name in ("step", "rung", "served_slot", "on_front", "accuracy", "padding_share")} == {
        "step": "int64", "rung": "Int64", "served_slot": "Int64", "on_front": "bool", "accuracy": "float64",
        "padding_share": "float64",
    }  # fmt: skip
    assert (types["key"], types["label"], types["config.pruning.layers"]) == ("string", "string", "string")
    assert types["config.pruning.target_rank"] == "Int64"


def test_trials_are_all_that_have_a_record(store: Store) -> None:
    trials = open_store(store.uri).trials
    assert list(trials.index) == ["a1", "b2", "c3", "d4"]
    assert list(trials["status"]) == ["completed", "completed", "failed", "failed"]
    assert list(trials["num_candidates"]) == [2, 1, 1, 0]
    assert trials.loc["d4", "failure"] == "NonFiniteLossError: loss is nan"


def test_the_decision_is_that_of_the_report(store: Store) -> None:
    opened = open_store(store.uri)
    decision = decide(opened.summary)
    assert decision is not None
    assert opened.decision == decision
    assert opened.recommendation is decision.recommended.point or opened.recommendation == decision.recommended.point
    assert opened.sentences() == sentences(decision, opened.summary)


def test_another_margin_and_another_size(store: Store) -> None:
    opened = open_store(store.uri, within=0.06, size="file_bytes")
    assert opened.recommendation is not None
    assert (opened.recommendation.name, opened.summary.objectives.size) == ("a1@10", "file_bytes")


def test_what_a_notebook_shows(store: Store) -> None:
    opened = open_store(Path(store.uri))
    assert repr(opened) == f"<Store {store.uri}: 4 trials, 4 candidates, 3 on the front>"
    page = opened._repr_html_()
    assert "a1@20" in page
    assert not any(text in page for text in ("config.", "<b>"))


def test_a_store_without_an_adapter(fill: Make, failed: Make) -> None:
    opened = open_store(fill(failed("d4")).uri)
    assert (opened.recommendation, len(opened.candidates), len(opened.front)) == (None, 0, 0)
    assert opened.sentences() == ["All 1 trials failed: nothing to recommend."]
    assert "All 1 trials failed" in opened._repr_html_()


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is no store: it has no sweep\.yaml"):
        open_store(tmp_path)


def test_it_is_of_the_package_and_nothing_heavy_comes_with_either() -> None:
    assert prunedlora.open_store is open_store
    code = """
import sys, prunedlora
assert "pandas" not in sys.modules
prunedlora.open_store
print(sorted({"torch", "ray", "optuna", "transformers", "datasets", "plotly"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
