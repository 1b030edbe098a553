import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prunedlora.results.record import (
    SCHEMA_VERSION,
    Candidate,
    Cut,
    ExampleOutcomes,
    Figure,
    ObjectiveError,
    RecordError,
    TrialRecord,
    from_json,
    known_objectives,
    to_json,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(value=FINITE, config=st.dictionaries(TEXT, JSON, max_size=4), label=st.none() | TEXT)
def test_json_round_trip_is_exact(value, config, label, record, candidate):
    figures = {"accuracy": Figure(value=value, num_examples=3)}
    before = record("k", candidate(figures=figures), config=config, label=label)
    text = to_json(before)
    after = from_json(TrialRecord, text, "here")
    assert after == before
    assert to_json(after) == text


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused(bad, candidate, record):
    with pytest.raises(ValidationError, match="finite"):
        Figure(value=bad, num_examples=1)
    with pytest.raises(ValidationError, match="finite"):
        candidate(train_seconds=bad)
    with pytest.raises(ValidationError, match="finite"):
        record(config={"deep": [{"er": bad}]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "failed"}, "a failed trial needs a failure"),
        ({"candidates": ()}, "a completed trial needs at least one candidate"),
        ({"attempts": 0}, "greater than or equal to 1"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"config": {"a": (1, 2)}}, "valid JSON value"),
    ],
)
def test_records_that_cannot_be_are_refused(change, message, record):
    with pytest.raises(ValidationError, match=message):
        record("a1", **change)


@pytest.mark.parametrize("key", ["../up", "", ".tmp-1", "a/b", "a b"])
def test_keys_are_names_of_folders(key, record):
    with pytest.raises(ValidationError, match="pattern"):
        record(key)


def test_only_a_failed_trial_has_a_failure(record, failed):
    with pytest.raises(ValidationError, match="a stopped trial has no failure"):
        record("a1", status="stopped", failure=failed("b").failure)


def test_candidates_rise_in_step(record, candidate):
    with pytest.raises(ValidationError, match=r"candidates must rise in step: \['20', '10'\]"):
        record("a1", candidate(step=20), candidate(step=10))


def test_documents_are_frozen(record):
    with pytest.raises(ValidationError, match="frozen"):
        record().key = "other"


def changed(record, **changes):
    return json.dumps(json.loads(to_json(record)) | changes)


def test_reading_names_the_path_of_what_is_broken(record):
    text = to_json(record("a1"))
    for broken, message in [
        (text[:50], "s3://b/record.json: not JSON: "),
        ("[1]", "s3://b/record.json: not a JSON object but a list"),
        (changed(record("a1"), attempts="1"), "s3://b/record.json: not a valid TrialRecord: attempts: .*integer"),
        (changed(record("a1"), extra=1), "s3://b/record.json: not a valid TrialRecord: extra: "),
        (changed(record("a1"), status="failed"), "document: .*a failed trial needs a failure"),
        (changed(record("a1"), train_seconds=float("nan")), "train_seconds: .*finite"),
        (changed(record("a1"), config={"a": float("nan")}), "nan is not finite"),
        (changed(record("a1"), schema_version=0), "schema_version"),
    ]:
        with pytest.raises(RecordError, match=message):
            from_json(TrialRecord, broken, "s3://b/record.json")


def test_a_newer_record_is_refused_by_version(record):
    newer = changed(record("a1"), schema_version=SCHEMA_VERSION + 1, field_of_the_future=1)
    with pytest.raises(RecordError, match=r"x\.json: schema_version 3 is newer than 2, .* upgrade prunedlora"):
        from_json(TrialRecord, newer, "x.json")


def test_objectives_of_a_candidate(candidate: Candidate):
    one = candidate(0.75, 120)
    assert one.objective("accuracy") == 0.75
    assert one.objective("loss") == 0.25
    assert one.objective("adapter_params") == 120.0
    assert one.objective("served_slot") == 8.0
    assert known_objectives(["accuracy"]) == (
        "accuracy", "adapter_params", "adapter_bytes", "file_bytes", "max_rank", "served_slot", "served_slot_bytes"
    )  # fmt: skip
    assert one.objective("file_bytes") == 4 * 120 + 200
    assert candidate(served_slot_bytes=4096).objective("served_slot_bytes") == 4096.0


def test_an_objective_that_is_not_recorded_is_refused(candidate):
    with pytest.raises(
        ObjectiveError, match="'acuracy' is no recorded figure; recorded: accuracy, loss, adapter_params"
    ):
        candidate().objective("acuracy")
    with pytest.raises(ObjectiveError, match="'served_slot' has no value at step 10: max_rank is 600"):
        candidate(max_rank=600, served_slot=None).objective("served_slot")
    with pytest.raises(ObjectiveError, match="'served_slot_bytes' has no value at step 10: its record is older than"):
        candidate().objective("served_slot_bytes")
    with pytest.raises(ObjectiveError, match="'served_slot_bytes' has no value at step 10: max_rank is 600"):
        candidate(max_rank=600, served_slot=None).objective("served_slot_bytes")


def test_the_widths_of_layers_are_read_back_and_a_record_of_before_them_too(record):
    wide = record(layer_widths={"a.q": (4, 8)}, embedding_widths={})
    assert from_json(TrialRecord, to_json(wide), "x").layer_widths == {"a.q": (4, 8)}
    content = json.loads(to_json(wide))
    del content["layer_widths"], content["embedding_widths"], content["candidates"][0]["served_slot_bytes"]
    old = from_json(TrialRecord, json.dumps(content), "x")
    assert (old.layer_widths, old.embedding_widths, old.candidates[0].served_slot_bytes) == (None, None, None)


def test_outcomes_have_both_classes_of_every_example_or_none():
    one = ExampleOutcomes(loss_sums=(0.5, 1.0), num_targets=(1, 1), scores={})
    old = {name: value for name, value in json.loads(to_json(one)).items() if "classes" not in name}
    assert from_json(ExampleOutcomes, json.dumps(old), "x") == one
    whole = one.model_copy(update={"true_classes": (0, 2), "predicted_classes": (1, 2)})
    assert from_json(ExampleOutcomes, to_json(whole), "x") == whole
    alone, few = {"true_classes": [0, 1]}, {"true_classes": [0], "predicted_classes": [0]}
    for changes, said in ((alone, "2 true and None"), (few, "1 true and 1")):
        with pytest.raises(RecordError, match=f"x: not a valid ExampleOutcomes: .*2 examples have {said} predicted cl"):
            from_json(ExampleOutcomes, json.dumps(old | changes), "x")


def test_the_original_is_what_a_training_began_with_and_no_cut_of_it(candidate):
    cut = Cut(basis="svd", allocation="uniform", unit="mean_rank", size=2.0)
    assert candidate(step=0, progress=0.0).is_original
    assert candidate(step=0, progress=1.0).is_original
    assert not candidate(step=0, progress=0.0, cut=cut).is_original
    assert not candidate(step=1).is_original
