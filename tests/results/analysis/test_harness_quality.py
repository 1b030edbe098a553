"""A sweep whose quality lm-evaluation-harness gave: what is said of its documents, and of candidates without it."""

import io
from html import unescape
from re import DOTALL, sub

import pytest
from rich.console import Console

from prunedlora.results.analysis.constraints import Constraints
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.harness_quality import spent_text, unmeasured_text
from prunedlora.results.analysis.pareto import Objectives, best_full, points
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.comparison.comparison_page import comparison_html
from prunedlora.results.comparison.comparison_tables import overview as comparison_overview
from prunedlora.results.comparison.fronts import compare
from prunedlora.results.comparison.groups import groups_by
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import ExampleOutcomes, Failure, Figure, ObjectiveError
from prunedlora.results.report.overview import overview
from prunedlora.results.report.report import report_files
from prunedlora.results.report.verdict import print_verdict

QUALITY = "harness/arc_easy/acc"
OBJECTIVES = {QUALITY: "maximize", "adapter_params": "minimize"}
LOSS = Figure(value=0.75, stderr=0.1, num_examples=50)
FAILURE = Failure(type="HarnessError", message=f"{QUALITY} is nan", fault="user", traceback="…")
N = 200


def measured(candidate, num_wrong, params, step=10, **changes):
    figures = {"loss": LOSS, QUALITY: Figure(value=1 - num_wrong / N, stderr=0.04, num_examples=N)}
    return candidate(0.5, params, step, figures=figures, **changes)


def failing(candidate, params, step):
    return candidate(0.5, params, step, figures={"loss": LOSS}, harness_failure=FAILURE)


@pytest.fixture
def store(fill, record, candidate):
    """Two trials that differ in one document, of which one failed at its last candidate."""
    failed = {"status": "failed", "failure": FAILURE}
    small = record("small", measured(candidate, 21, 100), failing(candidate, 50, 20), **failed, label="small")
    large = record("large", measured(candidate, 20, 1000), label="large")
    filled = fill(large, small, objectives=OBJECTIVES)
    for key, wrong in (("large", 20), ("small", 21)):
        write(filled, key, wrong, "same")
    return filled


def write(store, key, wrong, documents):
    outcomes = ExampleOutcomes(loss_sums=(1.0, 0.5), num_targets=(1, 1), scores={})
    store.write_outcomes(key, "10", outcomes)
    store.add_scores(key, "10", QUALITY, [0.0] * wrong + [1.0] * (N - wrong), documents)


def test_documents_are_spent_and_the_test_split_gives_the_loss(store):
    point = summarize(store).recommended
    exported = ExportedAdapter(key=point.key, step=point.step, path="somewhere", test={"loss": LOSS})
    store.write_exported(exported)
    summary, text = summarize(store), io.StringIO()
    said = spent_text(QUALITY, {"loss": LOSS})
    assert "documents of lm-evaluation-harness task arc_easy are this sweep's validation" in said
    assert "optimistic for the chosen one and is no independent test. On the test split" in said
    assert "its loss is 0.750 ± 0.100" in said
    console = Console(file=text, width=10_000)
    console.print(overview(summary))
    assert said in text.getvalue()
    files = report_files(summary)
    page = files["report.html"].decode()
    assert said.replace("'", "&#39;") in page
    assert "was not measured on the test split yet" not in page
    assert "Only documents of another task tell" in page
    print_verdict(
        store, console, within=0.05, confidence=0.95, constraints=Constraints(), proven=False, as_json=False
    )  # fmt: skip
    assert text.getvalue().count(said) == 2
    print_verdict(store, console, within=0.05, confidence=0.95, constraints=Constraints(), proven=False, as_json=True)
    assert f'"{spent_text(QUALITY)}"' in text.getvalue()


def test_of_a_quality_on_the_validation_split_nothing_is_said(record):
    assert spent_text("accuracy", {"accuracy": LOSS}) == ""
    assert unmeasured_text([record("a")], "accuracy") == ""


def test_a_candidate_that_the_harness_failed_at_is_on_no_front_and_says_why(store, record, candidate):
    objectives, records = Objectives.parse(OBJECTIVES), store.records()
    assert [point.name for point in points(records, objectives)] == ["large@10", "small@10"]
    assert unmeasured_text(records, QUALITY) == (
        f"1 candidate is left out, without {QUALITY}: lm-evaluation-harness failed (small@20: HarnessError: "
        f"{QUALITY} is nan)."
    )
    text = io.StringIO()
    Console(file=text, width=10_000).print(overview(summarize(store)))
    assert "1 candidate is left out" in text.getvalue()
    last = records[1].candidates[-1]
    with pytest.raises(ObjectiveError, match=r"of 20 \(lm-evaluation-harness failed: .* is nan\)"):
        last.figure(QUALITY)
    assert last.is_measured(["loss", "adapter_params"])
    assert not last.is_measured([QUALITY])
    full = record("full", failing(candidate, 0, 5), config={"full": {}, "adapter": None})
    assert best_full([full], objectives) is None


def test_another_figure_that_is_missing_is_still_an_error(candidate):
    assert failing(candidate, 1, 1).is_measured(["exact_match"])


def test_candidates_are_compared_document_by_document_where_the_documents_are_the_same(store):
    def found():
        return decide(summarize(store), within=0.05)

    assert found().caveats == ()
    assert found().proven.point.name == "small@10"  # without pairs it could not be told for certain
    write(store, "small", 21, "others")
    assert found().caveats
    assert found().proven is None or found().proven.point.name == "large@10"


def test_documents_are_called_documents(store):
    """By `search`, `recommend` and `compare`, and on their pages; and `compare` says that they are spent."""
    summary, text = summarize(store), io.StringIO()
    console = Console(file=text, width=10_000)
    console.print(overview(summary))
    for within in (0.05, 0.01):
        print_verdict(
            store, console, within=within, confidence=0.95, constraints=Constraints(), proven=False, as_json=False
        )
    (groups, _) = groups_by(store, "label", 0.01)
    comparison = compare(groups, within=0.01, confidence=0.95)
    console.print(comparison_overview(comparison, []))
    said = text.getvalue()
    assert "documents of arc_easy (now 200) would prove it" in said
    assert "Compared on the same 200 documents of arc_easy, pair by pair." in said
    assert "All on the documents of arc_easy, and one training each" in said
    assert said.count(spent_text(QUALITY)) == 4
    page = report_files(summary)["report.html"].decode()
    assert "Bars: one standard error over the documents of arc_easy of one run" in page
    for each in (said, page, comparison_html(comparison, [])):
        words = unescape(each).replace("are this sweep's validation: adapters", "").replace('"validation": {', "")
        start = words.find("<main>")  # not the library that draws
        assert "validation" not in sub("<script.*?</script>", "", words[max(start, 0) :], flags=DOTALL)
