"""What becomes of suggestions that are no new trial: finite spaces, repeats, what no check foresaw."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prunedlora.config.space import Choice, IntRange
from prunedlora.config.sweep import SweepConfig
from prunedlora.registry import names
from prunedlora.results.store import Store
from prunedlora.study import listed_configurations
from prunedlora.study.asked import INVALID, MOST_IN_VAIN, REPEATED
from prunedlora.study.asker import Asker
from tests.study.test_asker import drive

Make = Callable[..., SweepConfig]
RANKS = {"adapter.initial_rank": {"choice": [2, 4, 8]}}


@pytest.mark.parametrize("sampler", names("sampler"))
def test_a_finite_space_is_tried_whole(sampler: str, make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    config = make_sweep(num_trials=6, sampler=sampler, space=RANKS)
    assert drive(config, store)
    assert sorted(ask.params["adapter.initial_rank"] for ask in store.asks()) == [2, 4, 8]
    again = Asker(config, store, num_slots=1)
    assert (again.num_configurations, again.num_repeats, again.num_left) == (3, 0, 0)
    assert again.exhausted
    assert again.finished
    assert again.next() is None
    assert drive(make_sweep(num_trials=3, sampler=sampler, space=RANKS), store)
    assert not Asker(make_sweep(num_trials=3, space=RANKS), store).exhausted  # it has all that it was to try


def test_a_baseline_of_the_space_is_a_repeat_that_counts_as_no_trial(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    config = make_sweep(num_trials=3, space=RANKS, baselines=[{"adapter.initial_rank": 4}])
    assert drive(config, store)
    asks = store.asks()
    assert len({ask.key for ask in asks}) == 3
    assert [ask.kind for ask in asks].count("search") == 3
    assert sum(REPEATED in ask.system_attrs for ask in asks) == Asker(config, store).num_repeats == 1


def test_in_part_of_a_finite_space_nothing_is_tried_twice(make_sweep: Make, tmp_path: Path) -> None:
    """30 of 36 configurations, killed in between as well."""
    space = {"adapter.initial_rank": {"int": [2, 7]}, "training.num_steps": {"int": [10, 60], "step": 10}}
    config = make_sweep(num_trials=30, space=space)
    whole, broken = Store(str(tmp_path / "whole")), Store(str(tmp_path / "broken"))
    assert drive(config, whole)
    assert len({ask.key for ask in whole.asks()}) == len(whole.asks()) == 30
    runs = 0
    while not drive(config, broken, most_events=(13, 16, 14, 15)[runs % 4]):
        runs += 1
    assert runs > 2
    assert broken.asks() == whole.asks()


def test_repeats_elsewhere_count_as_no_trials_and_many_in_a_row_end_the_search(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_configurations, "MOST_LISTED", 1)
    store = Store(str(tmp_path / "s"))
    config = make_sweep(num_trials=3, sampler="random", space=RANKS)
    assert drive(config, store)
    asks = store.asks()
    assert len({ask.key for ask in asks}) == 3
    assert sum(REPEATED not in ask.system_attrs for ask in asks) == 3
    config = make_sweep(num_trials=10, sampler="random", space=RANKS)
    assert drive(config, store)
    last = store.asks()[-MOST_IN_VAIN:]
    assert all(REPEATED in ask.system_attrs for ask in last)
    asker = Asker(config, store)
    assert asker.exhausted
    assert asker.num_repeats == len(store.asks()) - 3
    assert asker.num_configurations is None


@pytest.mark.parametrize("listed", [True, False])
def test_a_suggestion_that_is_no_trial_is_named_and_passed_over(
    listed: bool, make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the checks of the space cannot see in full: the search goes on, in this run and the next."""
    if not listed:
        monkeypatch.setattr(listed_configurations, "MOST_LISTED", 1)
    config = make_sweep(num_trials=4, sampler="random")
    config = config.model_copy(
        update={"space": {"adapter.initial_rank": Choice(choice=[-1, 2]), "training.num_steps": IntRange(int=(10, 11))}}
    )
    store = Store(str(tmp_path / "store"))
    assert drive(config, store)
    asks = store.asks()
    invalid = [ask for ask in asks if INVALID in ask.system_attrs]
    assert invalid
    assert {ask.params["adapter.initial_rank"] for ask in invalid} == {-1}
    assert "is no trial" in str(invalid[0].system_attrs[INVALID])
    assert len({ask.key for ask in asks} - {ask.key for ask in invalid}) == len(store.records()) == 2
    assert Asker(config, store).exhausted
    nothing = {"adapter.initial_rank": Choice(choice=[-1, -2])}
    asker = Asker(config.model_copy(update={"space": nothing}), Store(str(tmp_path / "nothing")))
    assert asker.next() is None
    assert asker.exhausted
    assert len(asker.problems) == (2 if listed else MOST_IN_VAIN)
    assert asker.problems[0].startswith("the space allows adapter.initial_rank=-")
    assert ", which is no trial: " in asker.problems[0]
    assert asker.problems[0].endswith("to be rid of it narrow the space, in another --storage")
