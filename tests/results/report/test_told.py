"""What the decision says of one adapter on its card and in its certificate."""

from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import BaseReference, Figure
from prunedlora.results.report.told import told_of
from prunedlora.results.report.verdict import sentences


def test_of_the_recommended_adapter_it_is_what_the_report_says(store_of):
    summary = summarize(store_of("a", {1000: 20, 500: 21, 300: 22, 200: 27}, recommend_within=0.02))
    told, words = told_of(summary, "k3@10"), sentences(decide(summary), summary)
    assert told.sentences[0].startswith(
        "On validation: Its sweep recommends it. It is the smallest that measured at most"
    )
    assert told.sentences[0].endswith(words[1])
    assert told.sentences[1] == words[2]
    assert "measured, not proven" in told.sentences[1]
    bound = decide(summary).recommended.bound
    assert told.document["at_most"] == bound
    assert told.document | {"at_most": None, "best_accuracy": None} == {
        "recommended": "k3@10", "is_recommended": True, "within": 0.02, "told": "measured", "best": "k0@10",
        "best_accuracy": None, "worse_by": told.document["worse_by"], "at_most": None, "confidence": 0.95,
        "num_compared": 4, "unproven": None, "caveats": [], "warning": None, "limits": {},
    }  # fmt: skip
    assert told.is_chosen


def test_of_another_it_is_how_it_stands_beside_that_and_the_best(store_of):
    store = store_of("a", {1000: 20, 300: 21, 200: 90})
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.77, stderr=0.02, num_examples=400)}))
    summary = summarize(store)
    doubt, first, second = told_of(summary, "k2@10").sentences
    assert doubt.startswith("WARNING: k2@10 is not clearly better than the untrained base model")
    assert "Its sweep recommends another, k1@10 (300 parameters, accuracy 0.948 ± 0.011), by a margin of 0.01." in first
    assert "This one measured 0.1750 worse than the best, k0@10 (accuracy 0.950 ± 0.011)." in first
    assert "is at most 0.2" in second
    assert "proven" not in second
    assert told_of(summary, "k2@10").document["told"] == "not within"
    assert told_of(summary, "k0@10").document["told"] == "proven"


def test_what_the_decision_does_not_know_is_told_nothing_of(fill, record, candidate, failed):
    summary = summarize(fill(record("a1", candidate(), candidate(0.6, step=20, adapter_path=None))))
    assert told_of(summary, "a1@20") is None
    assert told_of(summary, "none@1") is None
    assert told_of(summarize(fill(failed("b1"))), "b1@1") is None
    alone = told_of(summary, "a1@10")
    assert alone.is_chosen  # the other one was measured too


def test_one_alone_was_not_chosen(fill, record):
    told = told_of(summarize(fill(record("a1"))), "a1@10")
    assert not told.is_chosen
    assert told.sentences[1] == "There was nothing to compare it with: no probability is given."
