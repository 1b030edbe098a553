"""What becomes of suggestions that are no new trial: finite spaces, repeats, what no check foresaw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.space import Choice, IntRange
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize
from prunedlora.registry import names
from prunedlora.results.ask import Ask
from prunedlora.results.store import Store
from prunedlora.study import asked, listed_configurations
from prunedlora.study.asked import GIVEN, INVALID, MOST_IN_VAIN, REPEATED, TOO_LARGE
from prunedlora.study.asker import Asker
from tests.inventions import next_ask
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


@pytest.mark.parametrize("listed", [True, False])
def test_a_search_begins_with_what_the_file_says_is_good(
    listed: bool, make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between as well."""
    if not listed:
        monkeypatch.setattr(listed_configurations, "MOST_LISTED", 1)
    space = {
        "adapter.initial_rank": {"choice": [2, 4, 8], "prior": 8},
        "training.num_steps": {"int": [10, 60], "step": 10},
    }
    known = [
        {"training.num_steps": 50},
        {"adapter.initial_rank": 2, "training.num_steps": 60},
    ]
    config = make_sweep(num_trials=6, space=space, known=known)
    whole, broken = Store(str(tmp_path / "whole")), Store(str(tmp_path / "broken"))
    assert drive(config, whole)
    while not drive(config, broken, most_events=5):
        pass
    assert broken.asks() == whole.asks()
    given = [ask for ask in whole.asks() if GIVEN in ask.system_attrs]
    rank, steps = "adapter.initial_rank", "training.num_steps"
    assert [ask.system_attrs[GIVEN] for ask in given] == [{rank: 8}, {rank: 8, steps: 50}, {rank: 2, steps: 60}]
    assert given == whole.asks()[:3]
    assert all(ask.params.items() >= ask.system_attrs[GIVEN].items() for ask in given)
    assert len({ask.key for ask in whole.asks()}) == 6


def test_what_a_changed_file_says_is_good_is_asked_next(make_sweep: Make, tmp_path: Path) -> None:
    """What was asked before is not, wherever it stands now, and whoever proposed it."""
    rank, rate = "adapter.initial_rank", "optimizer.learning_rate"
    space = {rank: {"int": [2, 64]}, rate: {"log_uniform": [1e-4, 1e-2]}}
    known = [{rank: 5, rate: 1e-3}, {rank: 60}, {rank: 33, rate: 2e-3}]

    def ask_all(num_trials: int, known: list[Any], store: Store, kill: int | None = None) -> list[Ask]:
        config = make_sweep(num_trials=num_trials, space=space, known=known)
        while not drive(config, store, kill):
            pass
        return store.asks()

    store = Store(str(tmp_path / "s"))
    first = ask_all(3, known[:1], store)
    own = {name: first[2].params[name] for name in (rank, rate)}
    changed = [known[1], known[0], own, known[2]]
    asks = ask_all(7, changed, store)
    assert [ask.system_attrs.get(GIVEN) for ask in asks] == [known[0], None, None, known[1], known[2], None, None]
    assert asks[3].params[rank] == 60
    assert not any(REPEATED in ask.system_attrs for ask in asks)
    broken = Store(str(tmp_path / "broken"))
    ask_all(3, known[:1], broken, 4)
    assert ask_all(7, changed, broken, 5) == asks


def planner(trial: TrialConfig) -> list[PlannedSize]:
    assert trial.adapter is not None
    assert trial.adapter.initial_rank is not None
    size = 100.0 * trial.adapter.initial_rank
    return [PlannedSize(1.0, {"adapter_params": (size, 2 * size)})]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_all_of_a_finite_space_that_keeps_the_limits_is_tried_and_nothing_else(
    sampler: str, make_sweep: Make, tmp_path: Path
) -> None:
    """4 of 63 ranks fit: draws find too few of them. Killed in between as well."""
    space = {"adapter.initial_rank": {"int": [2, 64]}}
    config = make_sweep(num_trials=30, sampler=sampler, space=space, constraints={"adapter_params": 500})
    whole, broken = Store(str(tmp_path / "whole")), Store(str(tmp_path / "broken"))
    assert drive(config, whole, planner=planner)
    assert sorted(ask.params["adapter.initial_rank"] for ask in whole.asks()) == [2, 3, 4, 5]
    while not drive(config, broken, most_events=5, planner=planner):
        pass
    assert broken.asks() == whole.asks()
    again = Asker(config, whole)
    assert (again.num_left, again.num_left_out) == (30 - 4, 0)  # of sizes it knows nothing yet
    again.planner = planner
    assert (again.num_left, again.num_left_out, again.exhausted, again.problems) == (0, 59, True, [])


@pytest.mark.parametrize("seed", range(4))
def test_what_a_prior_leaves_open_is_drawn_until_it_keeps_the_limits(
    seed: int, make_sweep: Make, tmp_path: Path
) -> None:
    """A quarter of the ranks does."""
    rate = "optimizer.learning_rate"
    space = {"adapter.initial_rank": {"int": [2, 40]}, rate: {"log_uniform": [1e-4, 1e-2], "prior": 1e-3}}
    config = make_sweep(num_trials=1, seed=seed, space=space, constraints={"adapter_params": 1000})
    store = Store(str(tmp_path / "s"))
    assert drive(config, store, planner=planner)
    (ask,) = store.asks()
    assert ask.system_attrs == {GIVEN: {rate: 1e-3}}
    assert ask.params[rate] == 1e-3
    assert ask.params["adapter.initial_rank"] <= 10


def test_what_a_prior_leaves_open_and_never_keeps_the_limits_is_left_out_and_said(
    make_sweep: Make, tmp_path: Path
) -> None:
    """One rank of 400 does, beside a rate that is known to be good; and a rank that is given is too large as it is."""
    rate, rank = "optimizer.learning_rate", "adapter.initial_rank"
    space = {rank: {"int": [2, 401]}, rate: {"log_uniform": [1e-4, 1e-2], "prior": 1e-3}}
    known = [{rank: 300}]
    config = make_sweep(num_trials=2, space=space, constraints={"adapter_params": 200}, known=known)
    asker = Asker(config, store := Store(str(tmp_path / "s")))
    asker.planner = planner
    next_ask(asker)
    prior, given = store.asks()[:2]
    assert prior.system_attrs[GIVEN] == {rate: 1e-3}
    size = 100 * prior.params[rank]
    why = f"adapter_params is at least {size:,}, above 200, and as large with 16 draws of what the file leaves open"
    assert prior.system_attrs[TOO_LARGE] == f"{why} ({rank})"
    assert given.system_attrs[TOO_LARGE] == "adapter_params is at least 30,000, above 200"
    said, also = asker.problems[:2]
    assert said.startswith(f"{rate}=0.001, which the file has tried first, was left out: {why} ({rank}); give the")
    assert also.startswith(f"{rate}=0.001, {rank}=300, which the file has tried first, was left out: adapter_params")
    assert not any(GIVEN in ask.system_attrs for ask in store.asks()[2:])  # neither is asked for again


def test_a_search_of_which_nothing_keeps_the_limits_ends_and_says_why(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the space is not listed."""
    monkeypatch.setattr(asked, "MOST_IN_VAIN", 4)
    monkeypatch.setattr(listed_configurations, "MOST_LISTED", 1)

    def ask_all(limit: float, store: Store) -> tuple[Asker, int]:
        space = {"adapter.initial_rank": {"int": [4, 64]}}
        config = make_sweep(num_trials=30, sampler="random", space=space, constraints={"adapter_params": limit})
        asker = Asker(config, store, num_slots=30)
        asker.planner = planner
        num = 0
        while next_ask(asker) is not None:
            num += 1
        return asker, num

    store = Store(str(tmp_path / "none"))
    asker, num = ask_all(300, store)
    assert num == 0
    assert asker.exhausted
    assert [TOO_LARGE in ask.system_attrs for ask in store.asks()] == [True] * 4
    (problem,) = asker.problems
    assert problem.startswith("4 suggestions in a row have no candidate within the constraints (adapter_params 300)")
    assert "adapter_params is at least " in problem
    again, num = ask_all(300, store)
    assert (num, again.problems) == (0, [problem])
    assert len(store.asks()) == 4

    asker, num = ask_all(3000, store := Store(str(tmp_path / "some")))
    assert num == len({ask.params["adapter.initial_rank"] for ask in store.asks() if TOO_LARGE not in ask.system_attrs})
    assert num >= 10
    assert all(ask.params["adapter.initial_rank"] <= 30 or TOO_LARGE in ask.system_attrs for ask in store.asks())
