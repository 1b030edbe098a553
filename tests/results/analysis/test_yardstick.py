"""What the recommended adapter is compared with: what a reader would use without it."""

import pytest

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.yardstick import comparisons, yardstick

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
