"""A sweep's own limits bind every answer of its store: terminal, JSON, page's sentences, card."""

import io
import json

import pytest
from rich.console import Console

from prunedlora.results.analysis.constraints import Constraints, RequestError
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.report.told import told_of
from prunedlora.results.report.verdict import NothingToRecommendError, decision_document, print_verdict, sentences

ERRORS = {1000: 20, 500: 21, 300: 30, 200: 34}
"""Parameters → examples of 400 that the adapter gets wrong."""


def test_the_recommended_is_the_smallest_near_the_best_of_those_that_keep_to_them(store_of):
    free = summarize(store_of("free", ERRORS))
    assert (free.recommended.size, free.best.size) == (500, 1000)
    bound = summarize(store_of("bound", ERRORS, constraints={"adapter_params": 400.0}))
    found = decide(bound)
    assert (bound.recommended.size, bound.best.size) == (200, 300)
    assert (found.recommended.point.size, found.best.point.size, found.num_compared) == (200, 300, 2)
    assert len(bound.front) == 4  # what was found stays in sight
    words = " ".join(sentences(found, bound))
    assert "It keeps to the sweep's limits: adapter_params ≤ 400." in words
    assert decision_document(found, bound)["limits"] == {"adapter_params": 400.0}
    asked = decide(bound, constraints=Constraints(max_params=250, max_rank=9))
    words = " ".join(sentences(asked, bound))
    assert (
        "the sweep's limits: adapter_params ≤ 400, and to those asked for: parameters ≤ 250, largest rank ≤ 9." in words
    )
    assert decision_document(asked, bound)["asked_limits"] == {"parameters": 250, "largest rank": 9}
    told = told_of(bound, found.recommended.point.name)
    assert "It keeps to the sweep's limits: adapter_params ≤ 400." in told.sentences
    assert told.document["limits"] == {"adapter_params": 400.0}
    assert "limits" not in " ".join(sentences(decide(free), free))


def test_what_is_asked_for_binds_beside_them(store_of):
    bound = summarize(store_of("a", ERRORS, constraints={"adapter_params": 400}))
    assert decide(bound, constraints=Constraints(max_params=250)).best.point.size == 200
    assert decide(bound, constraints=Constraints(max_params=600)).best.point.size == 300
    with pytest.raises(RequestError, match=r"comes nearest: parameters 200, 2 times the limit of 100$"):
        decide(bound, constraints=Constraints(max_params=100))


def test_where_none_keeps_to_them_the_nearest_is_named(store_of):
    store = store_of("a", ERRORS, constraints={"adapter_params": 160, "served_slot": 8})
    summary = summarize(store)
    assert summary.recommended is None
    assert decide(summary) is None
    message = (
        "No adapter keeps to the sweep's limits: adapter_params ≤ 160, served_slot ≤ 8; nothing to recommend: no "
        "candidate meets the constraints; k3@10 comes nearest: adapter_params 200, 1.25 times the limit of 160."
    )
    assert summary.missing_answer() == message
    with pytest.raises(NothingToRecommendError) as caught:
        print_verdict(
            store, Console(file=io.StringIO()), within=None, confidence=0.95, constraints=Constraints(), proven=False,
            as_json=True,
        )  # fmt: skip
    assert str(caught.value) == message


def test_json_has_them(store_of):
    text = io.StringIO()
    print_verdict(
        store_of("a", ERRORS, constraints={"max_rank": 10**6}), Console(file=text, width=200), within=None,
        confidence=0.95, constraints=Constraints(), proven=False, as_json=True,
    )  # fmt: skip
    assert json.loads(text.getvalue())["limits"] == {"max_rank": 10**6}
