"""`prunedlora recommend` on what it cannot answer: one clear line on stderr and exit status 2."""

import json

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["recommend", *arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return " ".join(result.stderr.split())


@pytest.fixture
def store(fill, record, candidate):
    return fill(record("k1", candidate(0.9, params=300)), record("k2", candidate(0.8, params=200)))


def test_no_store(tmp_path):
    assert f"error: {tmp_path} is no store: it has no sweep.yaml" in refused(str(tmp_path))


def test_an_empty_store(fill):
    assert refused(fill().uri) == "error: No trial has finished yet: nothing to recommend."


def test_failed_trials_only(fill, failed):
    uri = fill(failed("bad", message="loss is nan"), failed("worse")).uri
    assert "error: All 2 trials failed: nothing to recommend." in refused(uri)


def test_a_record_of_a_newer_version(store):
    text = store.storage.read_text("trials/k1/record.json")
    store.storage.write_text("trials/k1/record.json", text.replace('"schema_version": 2', '"schema_version": 99'))
    message = refused(store.uri)
    assert "trials/k1/record.json: schema_version 99 is newer than" in message
    assert "upgrade prunedlora" in message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_record_with_a_number_that_is_not_finite(value, store):
    record = json.loads(store.storage.read_text("trials/k1/record.json"))
    record["candidates"][0]["figures"]["accuracy"]["value"] = 0.123456
    store.storage.write_text("trials/k1/record.json", json.dumps(record).replace("0.123456", value))
    message = refused(store.uri)
    assert "trials/k1/record.json: not a valid TrialRecord: candidates.0.figures.accuracy.value" in message
    assert "finite number" in message


def test_outcomes_with_a_number_that_is_not_finite(store):
    store.storage.write_text(
        "trials/k1/outcomes/10.json", '{"loss_sums": [NaN], "num_targets": [1], "correct": {"accuracy": [1]}}'
    )
    assert "trials/k1/outcomes/10.json: not a valid ExampleOutcomes: loss_sums.0" in refused(store.uri)


def test_a_constraint_that_no_candidate_meets(store):
    message = refused(store.uri, "--max-params", "100", "--max-bytes", "800")
    assert message == (
        "error: no candidate meets the constraints; k2@10 comes nearest: parameters 200, 2 times the limit of 100"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--within", "nan"], "within must be at least 0 and finite, got nan"),
        (["--within", "inf"], "within must be at least 0 and finite, got inf"),
        (["--within", "-1pt"], "within must be at least 0 and finite, got -0.01"),
        (["--within", "2"], "within must be less than 1, a difference in accuracy, got 2; one point is 1pt"),
        (["--within", "a bit"], "--within 'a bit' is neither a number (0.01) nor points (1pt)"),
        (["--confidence", "1"], "confidence must lie in [0.5, 1), got 1"),
        (["--confidence", "nan"], "confidence must lie in [0.5, 1), got nan"),
    ],
)
def test_questions_without_sense(arguments, expected, store):
    assert expected in refused(store.uri, *arguments).replace("│ ", "").replace(" │", "")


def test_the_sweep_s_margin_counts_and_another_is_said_to_be_another(fill, record, candidate):
    store = fill(
        *(record(f"k{i}", candidate(q, params=p)) for i, (q, p) in enumerate(((0.85, 10), (0.895, 20), (0.9, 90))))
    )
    result = CliRunner().invoke(app, ["recommend", store.uri])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Recommended: k1@10, 20 parameters")
    assert "You asked for" not in result.stdout
    other = CliRunner().invoke(app, ["recommend", store.uri, "--within", "6pt"])
    words = " ".join(other.stdout.split())
    assert words.startswith("Recommended: k0@10, 10 parameters")
    assert "You asked for at most 0.06 worse; with the sweep's own margin of 0.01" in words
    assert "it is k1@10." in words


def test_what_is_proven_is_asked_for(fill, record, candidate):
    store = fill(record("k0", candidate(0.89, params=10)), record("k1", candidate(0.9, params=90)))
    none = " ".join(CliRunner().invoke(app, ["recommend", store.uri, "--proven"]).stdout.split())
    assert none.startswith("Of no adapter is it proven with 95% confidence that it is at most 0.01 worse")
    assert "Export it" not in none
    some = CliRunner().invoke(app, ["recommend", store.uri, "--proven", "--within", "9pt"])
    assert some.stdout.startswith("The smallest that is proven at most 0.09 worse than the best: k0@10")
    assert "Export it: prunedlora export" in some.stdout


def test_candidates_scored_on_different_data_are_named(store):
    """No error: the answer says that these are no pairs, and only as comparable as the data are."""
    for key, fingerprint in (("k1", "f"), ("k2", "other")):
        record = store.read_record(key)
        environment = record.environment.model_copy(update={"data": {"fingerprint": fingerprint}})
        store.write_record(record.model_copy(update={"environment": environment}), 1)
        outcomes = {"loss_sums": [0.1] * 400, "num_targets": [1] * 400, "correct": {"accuracy": [1, 0] * 200}}
        store.storage.write_text(f"trials/{key}/outcomes/10.json", json.dumps(outcomes))
    result = CliRunner().invoke(app, ["recommend", store.uri, "--within", "20pt"])
    assert result.exit_code == 0, result.output
    assert "k2@10 had other data than the rest: no pairs" in " ".join(result.stdout.split())
    assert "Compared on the same examples" not in result.stdout
