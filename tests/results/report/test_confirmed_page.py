"""After a confirmation page and tables hold the fresh trainings beside what was chosen, and never among it."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.history import hypervolume_history
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import ConfirmationPlan, ConfirmedSetting
from prunedlora.results.report.answer import confirm_command
from prunedlora.results.report.front_files import candidate_rows
from prunedlora.results.report.open_store import open_store
from prunedlora.results.report.report import report_files
from prunedlora.results.store import Store

Make = Callable[..., Any]
MOST_CHARACTERS = 3000


@pytest.fixture
def confirmed(fill: Make, record: Make, candidate: Make) -> Callable[..., Store]:
    """confirmed(**fields of the plan): two trainings, of which one is recommended and the other best, and two fresh
    trainings of each, the luckiest of which is better than all."""

    def training(key: str, accuracy: float, params: int, seed: int) -> Any:
        config = {"adapter": {"method": "prunedlora", "initial_rank": params}, "seed": seed}
        return record(key, candidate(accuracy, params), config=config)

    def make(**changes: Any) -> Store:
        store = fill(training("small", 0.9, 100, 0), training("large", 0.905, 1000, 0))
        for seed in (1, 2):
            store.write_record(training(f"s{seed}", 0.88 + seed / 100, 100, seed), 1)
            store.write_record(training(f"l{seed}", 0.9 + seed / 100, 1000, seed), 1)
        settings = tuple(
            ConfirmedSetting(key=key, candidates=("10",), fresh=(f"{key[0]}1", f"{key[0]}2"))
            for key in ("small", "large")
        )
        fields = {
            "number": 0, "names": ("recommended", "best"), "settings": settings, "against": "large@10", "seeds": (1, 2),
            "looks": (2,), "within": 0.01, "confidence": 0.95, "asked_by": "me",
            "asked_at": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        store.write_confirmation(ConfirmationPlan(**(fields | changes)))
        return store

    return make


def words_of(store: Store) -> str:
    page = report_files(summarize(store))["report.html"].decode()
    return re.sub(r"\s+", " ", re.sub("<script.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL))


def test_the_page_counts_fresh_trainings_apart(confirmed: Callable[..., Store]) -> None:
    words = words_of(confirmed())
    assert "2 candidates of 2 trials (4 further trials confirmed what was chosen: no candidates)" in words
    assert "One training each, when they were chosen. 4 further trainings with fresh seeds confirm" in words
    assert "6 trainings" in words
    assert "4 trainings of them to confirm" in words


def test_the_first_box_tells_the_mean_over_fresh_seeds(confirmed: Callable[..., Store]) -> None:
    box = words_of(confirmed()).partition("What may be lost")[0]
    assert "Trained again: small@10: accuracy 0.895 ± 0.005 over 2 fresh seeds, chosen at 0.900" in box


def test_what_is_finished_is_not_asked_for_again(confirmed: Callable[..., Store]) -> None:
    summary = summarize(confirmed())
    decision = decide(summary)
    assert decision is not None
    assert (decision.recommended.point.name, decision.best.point.name) == ("small@10", "large@10")
    assert confirm_command(decision, summary) == ""


@pytest.mark.parametrize("changes", [{"against": None}, {"looks": (3,), "seeds": (1, 2, 3)}])
def test_what_was_compared_with_nothing_or_is_not_over_is_asked_for(
    confirmed: Callable[..., Store], changes: dict[str, Any]
) -> None:
    if "seeds" in changes:
        fresh = {"small": ("s1", "s2", "s3"), "large": ("l1", "l2", "l3")}
        settings = tuple(ConfirmedSetting(key=key, candidates=("10",), fresh=keys) for key, keys in fresh.items())
        changes = changes | {"settings": settings}
    summary = summarize(confirmed(**changes))
    decision = decide(summary)
    assert decision is not None
    assert confirm_command(decision, summary).endswith(" recommended best --seeds 3")


def test_the_front_did_not_grow_by_them(confirmed: Callable[..., Store]) -> None:
    summary = summarize(confirmed())
    stages = hypervolume_history(summary)
    assert len(stages) == 2
    assert stages[-1].hypervolume == pytest.approx(summary.hypervolume)


def test_tables_name_them(confirmed: Callable[..., Store]) -> None:
    store = confirmed()
    opened = open_store(store.uri)
    fresh = {"s1", "s2", "l1", "l2"}
    assert {row["key"] for row in candidate_rows(opened.summary) if row["confirms"]} == fresh
    assert set(opened.trials.query("confirms").index) == fresh
    assert not opened.front["confirms"].any()
    # The luckiest fresh training measured best of all rows, and is none to choose.
    assert opened.candidates["accuracy"].idxmax() == "l2@10"
    assert opened.candidates.query("not confirms")["accuracy"].idxmax() == "large@10"


def test_what_a_notebook_shows_of_them_is_some_lines(store_of: Make) -> None:
    opened = open_store(store_of("many", {100 + params: 20 + params % 7 for params in range(40)}).uri)
    assert opened.decision is not None
    assert len(opened.decision.standings) == 40
    for shown in (opened.decision, opened.summary, opened.recommendation):
        assert len(repr(shown)) < MOST_CHARACTERS
