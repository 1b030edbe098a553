"""What statements on settings take for granted of seeds, and which training fell."""

import pytest

from prunedlora.results.analysis.seeds_condition import condition_document, condition_text, fallen_text
from prunedlora.results.record import Figure


def figures(values, stderr=0.001):
    return [Figure(value=value, stderr=stderr, num_examples=100) for value in values]


def up(values):
    return fallen_text(figures(values), 0.01, maximize=True)


@pytest.mark.parametrize(("num_seeds", "share"), [(2, "81%"), (3, "73%"), (5, "59%"), (9, "39%")])
def test_the_condition_says_how_often_a_rare_collapse_is_not_seen(num_seeds, share):
    assert condition_text(num_seeds) == (
        "for seeds that vary normally: a training that goes wrong once in ten is not seen by "
        f"{num_seeds} seeds in {share} of cases"
    )
    assert condition_document(num_seeds)["one_in_ten_not_seen"] == pytest.approx(0.9**num_seeds)


def test_one_that_fell_is_named_with_what_the_others_have():
    values = [0.993, 0.996, 0.693, 0.997, 0.996, 0.995, 0.996, 0.997, 0.996]
    assert up(values) == "1 of 9 trainings fell to 0.693 (median of the others 0.996)"
    losses = [0.5, 0.51, 0.49, 2.0]
    assert (
        fallen_text(figures(losses), 0.01, maximize=False)
        == "1 of 4 trainings rose to 2.000 (median of the others 0.500)"
    )
    two = [0.9, 0.5, 0.901, 0.902, 0.4, 0.903, 0.899]
    assert up(two) == "2 of 7 trainings fell to 0.500, 0.400 (median of the others 0.901)"


@pytest.mark.parametrize(
    "values",
    [
        [0.9, 0.88, 0.92, 0.86],  # restless, none apart
        [0.9, 0.9, 0.9, 0.895],  # apart by less than the margin
        [0.9, 0.9, 0.9, 0.95],  # above
        [0.9, 0.5],  # of two it is not known which
        [],
    ],
)
def test_none_fell(values):
    assert up(values) == ""


def test_what_the_examples_explain_is_no_fall():
    assert fallen_text(figures([0.9, 0.9, 0.9, 0.85], 0.02), 0.01, maximize=True) == ""
    assert "fell to 0.850" in fallen_text(figures([0.9, 0.9, 0.9, 0.85], 0.009), 0.01, maximize=True)
