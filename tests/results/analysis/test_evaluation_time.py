"""What is said of the time that evaluating takes, and of candidates that it was spared."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.results.analysis.evaluation_time import evaluation_share, judged_text, share_words
from prunedlora.results.analysis.pareto import Objectives, points
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import Candidate, Figure, JudgedByLoss, ObjectiveError, TrialRecord
from prunedlora.results.report.overview import overview
from prunedlora.results.report.report import report_files
from prunedlora.results.store import Store

WHY = JudgedByLoss(beaten_by="a1@10", num_examples=400, difference=0.25, stderr=0.01)
LOSS = {"loss": Figure(value=0.9, stderr=0.02, num_examples=400)}
AXES = Objectives("accuracy", True, "adapter_params")


@pytest.mark.parametrize(
    ("training", "evaluation", "words"),
    [
        (66.0, 34.0, "evaluation 34% of the time"),
        (1.0, 0.0, "evaluation 0% of the time"),
        (1.0, None, None),
        (0.0, 0.0, None),
        (0.0, 90.0, "evaluation 1.5 min"),
    ],
)
def test_the_share_is_of_both_together(training: float, evaluation: float | None, words: str | None) -> None:
    assert share_words(training, evaluation) == words
    assert (evaluation_share(training, evaluation) is None) == (words is None)


@pytest.fixture
def records(candidate: Callable[..., Candidate], record: Callable[..., TrialRecord]) -> list[TrialRecord]:
    beaten = candidate(0.1, 200, step=20, figures=LOSS, judged_by_loss=WHY)
    return [
        record("a1", candidate(0.9, 100), train_seconds=3.0, evaluation_seconds=1.0),
        record("b1", candidate(0.8, 50), beaten, train_seconds=6.0, evaluation_seconds=2.0),
    ]


def test_a_candidate_judged_by_loss_is_no_point_and_no_error(records: list[TrialRecord]) -> None:
    assert [point.name for point in points(records, AXES)] == ["a1@10", "b1@10"]
    assert len(points(records, Objectives("loss", False, "adapter_params"))) == 3
    beaten = records[1].candidates[1]
    with pytest.raises(ObjectiveError, match=r"of 20 \(judged by loss: beaten by a1@10 on 400 examples\)"):
        beaten.figure("accuracy")
    lacking = records[1].model_copy(update={"candidates": (beaten.model_copy(update={"judged_by_loss": None}),)})
    with pytest.raises(ObjectiveError, match="'accuracy' is no recorded figure; recorded: loss"):
        points([lacking], AXES)


def test_a_report_counts_them_and_says_the_share(
    records: list[TrialRecord], sweep: dict[str, Any], tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    store.create_or_open(sweep)
    for one in records:
        store.write_record(one, 1)
    summary = summarize(store)
    said = (
        "1 of 3 candidates was judged by loss: another, no larger, clearly beats it on the same examples, so no "
        "answers were generated for it (evaluation.generate)."
    )
    assert judged_text(summary.records) == said
    files = {name: content.decode() for name, content in report_files(summary).items() if not name.endswith("png")}
    report = json.loads(files["report.json"])
    assert report["evaluation_share"] == pytest.approx(0.25)
    assert report["judged_by_loss"] == [{"key": "b1", "name": "20", **WHY.model_dump()}]
    rows = list(csv.DictReader(io.StringIO(files["candidates.csv"])))
    assert [(row["key"], row["accuracy"], row["judged_by_loss"]) for row in rows] == [
        ("a1", "0.9", ""), ("b1", "0.8", ""), ("b1", "", "a1@10"),
    ]  # fmt: skip
    for text in (files["report.html"], "\n".join(str(part) for part in overview(summary).renderables)):
        assert "of measuring candidates (25% of the time)" in text
        assert said in text
    assert judged_text(records[:1]) == ""
