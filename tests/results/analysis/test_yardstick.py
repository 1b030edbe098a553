"""What the recommended adapter is compared with: what a reader would use without it."""

import pytest

from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.yardstick import comparisons, warning, yardstick
from prunedlora.results.record import BaseReference, Figure

LORA = {"adapter": {"method": "lora"}}


def test_it_is_the_smallest_plain_lora_that_is_as_good_and_no_half_trained_giant(fill, record, candidate, cut):
    summary = summarize(
        fill(
            record("a1", candidate(0.515, 442_368, 5, progress=0.1), candidate(0.97, 400, 50)),
            record("l1", candidate(0.975, 4000, 5, progress=0.5), candidate(0.965, 8000, 50), config=LORA),
            record("l2", candidate(0.97, 1600, 50), config=LORA, label="LoRA rank 2"),
            record("l3", candidate(0.97, 1000, 50), candidate(0.96, 500, 50, cut=cut(1)), config=LORA),
            record("l4", candidate(0.9, 600, 50), config=LORA),
        )
    )
    found = yardstick(summary)
    assert (found.point.name, found.is_plain, found.is_as_good) == ("l3@50", True, True)
    assert comparisons(summary) == [
        "2.5× smaller than the smallest plain LoRA that measured as good (1,000 parameters, accuracy 0.970 ± 0.010).",
        "10× smaller than the best (accuracy 0.975 ± 0.010).",
    ]
    assert "442,368" not in " ".join(comparisons(summary))


def test_the_best_plain_lora_where_none_is_as_good(fill, record, candidate):
    plain = [record(f"l{n}", candidate(0.9 + n / 100, 1000 * n, 50), config=LORA) for n in (1, 2)]
    summary = summarize(fill(record("a1", candidate(0.97, 4000, 50)), *plain))
    assert comparisons(summary) == [
        "No plain LoRA here measured within 0.01 of the best.",
        "2× larger than the best plain LoRA (2,000 parameters, accuracy 0.920 ± 0.010).",
        "It is itself the best.",
    ]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([(0.97, 400), (0.971, 401)], ["About as large as the best complete adapter (401 parameters, accuracy 0.971"]),
        ([(0.97, 400)], ["It is itself the best complete adapter."]),
    ],
)
def test_the_best_complete_adapter_where_there_is_no_plain_lora(fill, record, candidate, sizes, said):
    summary = summarize(fill(*(record(f"a{n}", candidate(*one, 50)) for n, one in enumerate(sizes))))
    first, *rest = comparisons(summary)
    assert first == "No plain LoRA was trained here."
    assert [line[: len(start)] for line, start in zip(rest, said, strict=True)] == said


def test_plain_lora_may_be_recommended_itself(fill, record, candidate):
    summary = summarize(fill(record("l1", candidate(0.97, 400, 50), config=LORA)))
    assert comparisons(summary) == ["It is itself the smallest plain LoRA that measured as good."]


def test_half_trained_milestones_alone_are_no_yardstick(fill, record, candidate):
    summary = summarize(fill(record("a1", candidate(0.97, 400, 5, progress=0.1), status="stopped")))
    assert yardstick(summary) is None
    assert comparisons(summary) == ["It is itself the best."]


def test_a_half_trained_plain_lora_is_told_from_those_trained_to_their_end(fill, record, candidate):
    milestone = candidate(0.97, 400, 5, progress=0.1)
    summary = summarize(fill(record("l1", milestone, candidate(0.9, 400, 50), config=LORA)))
    assert comparisons(summary) == [
        "No plain LoRA, trained to its end and uncut, measured within 0.01 of the best.",
        "About as large as the best plain LoRA (400 parameters, accuracy 0.900 ± 0.010).",
        "It is itself the best.",
    ]


def test_the_best_is_one_that_has_a_file(fill, record, candidate):
    """So that margin, bound and size are told against one adapter."""
    store = fill(
        record("a1", candidate(0.99, 4000, 50, adapter_path=None)),
        record("a2", candidate(0.9, 2000, 50)),
        record("l1", candidate(0.895, 1000, 50), config=LORA),
    )
    summary = summarize(store)
    assert (summary.recommended.name, summary.best.name, summary.better_without_file.name) == (
        "l1@50",
        "a2@50",
        "a1@50",
    )
    assert decide(summary).best.point is summary.best
    assert comparisons(summary) == [
        "It is itself the smallest plain LoRA that measured as good.",
        "2× smaller than the best (accuracy 0.900 ± 0.010).",
    ]


@pytest.mark.parametrize(("base", "warned"), [(0.97, True), (0.945, True), (0.9, False), (None, False)])
def test_an_adapter_that_is_no_better_than_the_base_is_warned_of(base, warned, fill, record, candidate):
    store = fill(record("a1", candidate(0.97, 400)))
    if base is not None:
        store.write_base(BaseReference(figures={"accuracy": Figure(value=base, stderr=0.01, num_examples=400)}))
    summary = summarize(store)
    assert warning(summary, summary.recommended).startswith("WARNING: a1@10 is not clearly better") == warned
