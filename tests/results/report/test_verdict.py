"""The decision in words, as a table and as JSON."""

import io
import json

import pytest
from rich.console import Console

from prunedlora.results.analysis.constraints import Constraints
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import BaseReference, Figure
from prunedlora.results.report.verdict import (
    NothingToRecommendError,
    decision_document,
    print_verdict,
    sentences,
    settings_text,
)

ASKED = {"within": None, "confidence": 0.95, "constraints": Constraints(), "proven": False, "as_json": False}


def printed(store, width=80, **how):
    text = io.StringIO()
    print_verdict(store, Console(file=text, width=width), **(ASKED | how))
    return text.getvalue()


def said(store, **how):
    summary = summarize(store)
    return " ".join(sentences(decide(summary, **how), summary))


def test_what_is_measured_says_measured_and_what_is_proven_proven(store_of):
    store = store_of("a", {1000: 20, 500: 21, 300: 22, 200: 27}, recommend_within=0.02)
    words = said(store)
    assert words.startswith("Recommended: k3@10, 200 parameters, accuracy 0.932 ± 0.013 (validation).")
    assert "It is the smallest that measured at most 0.02 worse than the best, k0@10 (accuracy 0.950 ± 0.011, " in words
    assert "1,000 parameters): 0.0175 worse." in words
    assert "that it is within 0.02 is measured, not proven. The smallest that is: k2@10 (300 parameters)." in words
    assert "validation examples (now 400) would prove it, if it stays as it measured." in words
    assert "Compared on the same 400 validation examples, pair by pair." in words
    assert "than the truly best of them: proven." in said(store, within=0.05)
    assert "You asked for at most 0.05 worse; with the sweep's own margin of 0.02" in said(store, within=0.05)


def test_the_best_itself_is_not_told_to_be_within_a_margin_of_itself(store_of):
    words = said(store_of("a", {1000: 20, 300: 90}))
    assert "It measured best itself; nothing smaller measured at most 0.01 worse." in words


def test_what_measured_at_the_limit_takes_no_number_of_examples(store_of):
    assert "no affordable number of examples tells it" in said(store_of("a", {1000: 20, 300: 24}))


def test_other_trainings_of_the_settings_are_another_question(store_of, failed):
    store = store_of("a", {1000: 20, 300: 21})
    assert "Bounds are of this adapter as it is; what other trainings of its settings would give" in said(store)
    assert "One training each" not in said(store)
    for number, seed in ((0, 0), (1, 1)):
        record = store.read_record(f"k{number}")
        store.write_record(record.model_copy(update={"config": {"rank": 4, "seed": seed}}), 1)
    for seed in (2, 3):
        store.write_record(failed(f"x{seed}").model_copy(update={"config": {"rank": 4, "seed": seed}}), 1)
    assert "These settings: mean over 2 seeds 0.949 ± 0.001; 2 of 4 trainings failed." in said(store)
    settings = decide(summarize(store)).settings
    assert settings_text(settings) == "mean over 2 seeds 0.949 ± 0.001; 2 of 4 trainings failed"


@pytest.mark.parametrize(("test", "expected"), [(None, True), (0.93, False), (0.96, False)])
def test_a_little_less_is_expected_only_where_no_test_tells(test, expected, store_of):
    store = store_of("a", {1000: 20, 300: 21})
    if test is not None:
        figures = {"accuracy": Figure(value=test, stderr=0.01, num_examples=400)}
        store.write_exported(ExportedAdapter(key="k1", step=10, test=figures, path="p"))
    words = said(store)
    assert ("expect a little less on new data" in words) == expected
    assert ("less than where it was chosen, as is to be expected" in words) == (test == 0.93)


def test_a_single_adapter_was_chosen_from_nothing(store_of):
    assert "expect a little less" not in said(store_of("a", {300: 20}))


def test_confidence_is_not_rounded_to_certainty(store_of):
    words = printed(store_of("a", {1000: 20, 300: 20}), confidence=0.995)
    assert "99.5% confidence" in " ".join(words.split())
    assert "100%" not in words


def test_the_table_of_choices_has_room_in_80_columns(store_of):
    store = store_of("a", {1_000_000: 20, 300_000: 22, 200_000: 27})
    text = printed(store)
    lines = text[text.index("What may be lost") :].replace(store.uri, "").splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.split() and line.split()[0] in ("0", "0.01", "0.02", "0.05")]
    assert [row[0] for row in rows] == ["0", "0.01", "0.02", "0.05"]
    assert "proven" in rows[-1]
    assert "Export it: prunedlora export" in text


def test_the_same_as_json(store_of):
    store = store_of("a", {1000: 20, 500: 21, 300: 22, 200: 27})
    document = json.loads(printed(store, as_json=True, within=0.02, width=10_000))
    summary = summarize(store)
    found = decide(summary, within=0.02)
    assert document == json.loads(json.dumps(decision_document(found, summary)))
    assert document["recommended"] == {
        "candidate": "k3@10", "accuracy": 0.9325, "adapter_params": 200.0, "worse_by": found.recommended.shortfall,
        "at_most": found.recommended.bound,
    }  # fmt: skip
    assert document["proven"]["candidate"] == "k2@10"
    assert [one["candidate"] for one in document["not_proven"]] == ["k3@10"]
    assert [one["within"] for one in document["choices"]] == [0, 0.01, 0.02, 0.05]
    assert document["examples_needed"] == found.examples_needed


def test_a_store_without_adapters_says_why(fill, failed):
    with pytest.raises(NothingToRecommendError, match="All 1 trials failed"):
        printed(fill(failed("bad")))


def test_a_single_adapter_was_compared_with_nothing(store_of):
    words = said(store_of("a", {1000: 20}))
    assert "It is the only adapter that was measured. There was nothing to compare it with" in words
    assert "Figures are of this adapter as it is" in words
    for claim in ("proven", "for all adapters at once", "pair by pair", "measured best"):
        assert claim not in words
    store = store_of("b", {1000: 20, 300: 90})
    assert "It is the only adapter that meets these limits." in said(store, constraints=Constraints(max_params=300))
    assert "bounds" not in printed(store_of("c", {1000: 20}))


def test_what_has_no_file_is_told_where_it_measured_better(store_of):
    store = store_of("a", {1000: 20, 500: 80, 300: 81})
    best = store.read_record("k0")
    gone = tuple(one.model_copy(update={"adapter_path": None}) for one in best.candidates)
    store.write_record(best.model_copy(update={"candidates": gone}), 1)
    words = said(store)
    assert "at most 0.01 worse than the best, k1@10 (" in words
    assert "k0@10 measured better (accuracy 0.950 ± 0.011), but has no adapter file" in words
    summary = summarize(store)
    assert decision_document(decide(summary), summary)["better_without_file"] == "k0@10"


def test_why_trials_failed_is_told_where_to_read(fill, failed):
    store = fill(failed("a1"), failed("b2"))
    with pytest.raises(
        NothingToRecommendError, match=r"nothing to recommend\. prunedlora report .* tells why they fail"
    ):
        printed(store)


def test_the_base_model_is_warned_of_first(store_of):
    store = store_of("a", {1000: 20, 300: 21})
    assert "WARNING" not in printed(store)
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.94, stderr=0.01, num_examples=400)}))
    assert printed(store).startswith("WARNING: k1@10 is not clearly better than the untrained base model")
    asked = json.loads(printed(store, width=10_000, as_json=True))
    assert asked["warning"].startswith("WARNING: k1@10")


def test_refusals_count_adapters_and_not_rows(fill, record, candidate):
    store = fill(record("a", candidate(0.9, 100)), record("b", candidate(0.92, 200)))
    console = Console(width=80, record=True)
    print_verdict(
        store, console, within=None, confidence=0.95, constraints=Constraints(), proven=False, as_json=False
    )  # fmt: skip
    assert "vLLM would refuse 2 of 2: they carry a head of their own." in console.export_text()
