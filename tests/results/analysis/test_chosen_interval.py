"""The interval of what was chosen: on test where it was measured there, else of all that could have been chosen."""

import pytest

from prunedlora.results.analysis.chosen_interval import chosen_interval
from prunedlora.results.analysis.confidence import interval_of
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import Figure

TEST = Figure(value=0.9, stderr=0.015, num_examples=400)


@pytest.fixture
def store(store_of):
    return store_of("a", {1000: 20, 300: 22, 200: 90})


def test_without_test_figures_it_is_as_wide_as_the_choice_makes_it(store):
    summary = summarize(store)
    found = chosen_interval(summary, summary.recommended, 0.95)
    assert (found.split, found.num_choices, found.figure) == ("validation", 3, summary.recommended.quality)
    alone = interval_of("accuracy", found.figure, 0.95)
    assert found.ends[0] < alone[0]
    assert found.ends[1] > alone[1]
    assert found.ends == pytest.approx(interval_of("accuracy", found.figure, 1 - 0.05 / 3))


def test_on_test_nothing_was_chosen(store):
    store.write_exported(ExportedAdapter(key="k1", step=10, test={"accuracy": TEST}, path="recommended"))
    summary = summarize(store)
    found = chosen_interval(summary, summary.recommended, 0.95)
    assert (found.figure, found.split, found.num_choices) == (TEST, "test", 1)
    assert found.ends == interval_of("accuracy", TEST, 0.95)
    other = chosen_interval(summary, summary.best, 0.95)
    assert (other.split, other.num_choices) == ("validation", 3)
