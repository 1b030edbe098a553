"""Documents of schema 1 are read as those of schema 2, strictly, and written as such."""

import json
from typing import Any

import pytest

from prunedlora.results.ask import Ask
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import ExampleOutcomes, RecordError, TrialRecord, from_json, to_json


def old_record(document: TrialRecord, *ranks: int | None, **fields_of_candidates: Any) -> dict[str, Any]:
    """A record as schema 1 had it, with a candidate for each rank that the training was cut to (None: not cut)."""
    content = json.loads(to_json(document))
    del content["evaluation_seconds"], content["screened_cuts"]
    (one,) = content["candidates"]
    for name in ("rung", "branch_steps", "cut", "evaluation_seconds", "judged_by_loss"):
        del one[name]
    candidates = [{**one, "truncated_rank": rank, **fields_of_candidates} for rank in ranks]
    return content | {"schema_version": 1, "candidates": candidates}


def test_a_rank_that_was_cut_to_is_a_cut(record, cut):
    found = from_json(TrialRecord, json.dumps(old_record(record("a1"), None, 4, 1)), "x")
    assert [(one.name, one.cut) for one in found.candidates] == [("10", None), ("10r4", cut(4)), ("10r1", cut(1))]
    assert (found.schema_version, found.evaluation_seconds) == (2, None)
    assert json.loads(to_json(found))["schema_version"] == 2
    assert from_json(TrialRecord, to_json(found), "x") == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "not a valid TrialRecord: candidates.0.colour: Extra inputs"),
        ({"truncated_rank": 0}, "not a valid TrialRecord: candidates.0.truncated_rank: 0 is no rank"),
        ({"truncated_rank": "4"}, "candidates.0.truncated_rank: '4' is no rank"),
        ({"truncated_rank": True}, "candidates.0.truncated_rank: True is no rank"),
        ({"cut": None}, "candidates.0.cut: no field of schema 1"),
        ({"rung": 1}, "candidates.0.rung: no field of schema 1"),
        ({"step": "10"}, "candidates.0.step: .*integer"),
    ],
)
def test_an_old_candidate_that_cannot_be_is_refused(changes, message, record):
    with pytest.raises(RecordError, match=f"trials/a1: .*{message}"):
        from_json(TrialRecord, json.dumps(old_record(record("a1"), None, **changes)), "trials/a1")


def test_a_present_record_with_an_old_field_is_refused(record):
    content = json.loads(to_json(record("a1")))
    content["candidates"][0]["truncated_rank"] = None
    with pytest.raises(RecordError, match=r"candidates\.0\.truncated_rank: Extra inputs"):
        from_json(TrialRecord, json.dumps(content), "x")
    with pytest.raises(RecordError, match="evaluation_seconds: no field of schema 1"):
        from_json(TrialRecord, json.dumps(old_record(record("a1"), None) | {"evaluation_seconds": 1.0}), "x")


def test_right_and_wrong_are_scores():
    old = {"schema_version": 1, "loss_sums": [0.5, 1.5], "num_targets": [1, 2], "correct": {"accuracy": [1, 0]}}
    for version in ({}, {"schema_version": 1}):  # one that says none is old
        content = {name: value for name, value in old.items() if name != "schema_version"} | version
        found = from_json(ExampleOutcomes, json.dumps(content), "x")
        assert found == ExampleOutcomes(loss_sums=(0.5, 1.5), num_targets=(1, 2), scores={"accuracy": (1.0, 0.0)})
    for changes, message in (
        ({"correct": {"accuracy": [1, 2]}}, "correct.accuracy: 2 is neither 0 nor 1"),
        ({"correct": {"accuracy": [1, 0.5]}}, "correct.accuracy: 0.5 is neither 0 nor 1"),
        ({"correct": {"accuracy": 1}}, "scores.accuracy: .*array"),
        ({"correct": [1]}, "scores: .*object"),
        ({"scores": {}}, "scores: no field of schema 1"),
    ):
        with pytest.raises(RecordError, match=f"x: not a valid ExampleOutcomes: {message}"):
            from_json(ExampleOutcomes, json.dumps(old | changes), "x")


@pytest.mark.parametrize("score", [-0.1, 1.1, "1", True])
def test_a_score_lies_between_0_and_1(score):
    content = {"schema_version": 2, "loss_sums": [0.5], "num_targets": [1], "scores": {"rouge": [score]}}
    with pytest.raises(RecordError, match=r"scores\.rouge\.0"):
        from_json(ExampleOutcomes, json.dumps(content), "x")
    content["scores"] = {"rouge": [0.25]}
    assert from_json(ExampleOutcomes, json.dumps(content), "x").scores == {"rouge": (0.25,)}


def test_asks_and_exported_adapters_that_say_no_version_are_old(cut):
    ask = {"number": 0, "key": "a", "kind": "search", "params": {}, "distributions": {}, "system_attrs": {}}
    assert from_json(Ask, json.dumps(ask), "x") == Ask(**ask)
    with pytest.raises(RecordError, match=r"kind: .*'search', 'baseline' or 'confirm'"):
        from_json(Ask, json.dumps(ask | {"kind": "other"}), "x")
    exported = {"key": "a", "step": 5, "test": {}, "path": "/x"}
    for rank in (None, 4):
        found = from_json(ExportedAdapter, json.dumps(exported | {"truncated_rank": rank}), "x")
        assert found == ExportedAdapter(**exported, cut=rank and cut(rank))
    with pytest.raises(RecordError, match="ExportedAdapter: cut: no field of schema 1"):
        from_json(ExportedAdapter, json.dumps(exported | {"cut": None}), "x")
    with pytest.raises(RecordError, match="schema_version 3 is newer than 2"):
        from_json(ExportedAdapter, json.dumps(exported | {"schema_version": 3}), "x")
