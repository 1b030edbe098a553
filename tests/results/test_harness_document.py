"""Runs of lm-evaluation-harness beside a record: kept apart by candidate and settings, read strictly."""

from pathlib import Path
from typing import Any

import pytest

from prunedlora.results.harness_document import HarnessRun, read_harness, write_harness
from prunedlora.results.record import Environment, Figure, RecordError
from prunedlora.results.store import Store


def run(**changes: Any) -> HarnessRun:
    fields: dict[str, Any] = {
        "key": "abc",
        "candidate": "12",
        "tasks": ("arc_easy",),
        "settings": {"limit": None, "num_fewshot": 5},
        "figures": {"harness/arc_easy/acc": Figure(value=0.5, stderr=0.1, num_examples=26)},
        "environment": Environment(packages={"lm-eval": "0.4.13"}, device="cpu", num_workers=1, model={}, data={}),
    }
    return HarnessRun(**fields | changes)


def test_one_file_per_candidate_and_settings(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert read_harness(store, "abc") == []
    others = [run(candidate="6"), run(tasks=("arc_easy", "x")), run(settings={"limit": 10})]
    paths = [write_harness(store, each) for each in (run(), *others)]
    assert len(set(paths)) == 4
    again = run(figures={"harness/arc_easy/acc": Figure(value=0.6, num_examples=26)})
    assert write_harness(store, again) == paths[0]
    assert sorted(read_harness(store, "abc"), key=str) == sorted([again, *others], key=str)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    path = tmp_path / write_harness(store, run())
    path.write_text(path.read_text().replace("0.5", '"high"'))
    with pytest.raises(RecordError, match=f"{path}: not a valid HarnessRun"):
        read_harness(store, "abc")
