"""The searcher passes on what the asker says, and closes it at the end."""

import pickle
from collections.abc import Callable
from pathlib import Path

from ray.tune.search import Searcher

from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet.searcher import StoreSearcher
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from tests.inventions import invented_record

Make = Callable[..., SweepConfig]


def test_the_end_pauses_what_is_out(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    searcher = StoreSearcher(Asker(make_sweep(num_trials=3), store, num_slots=1))
    first = searcher.suggest("a")
    searcher.end()
    assert searcher.suggest("b") == Searcher.FINISHED
    searcher.on_trial_complete("a")
    assert Asker(make_sweep(num_trials=3), store).num_resumed in (1, 2)
    assert first["number"] == 0


def test_tune_may_pickle_it(make_sweep: Make, tmp_path: Path) -> None:
    """It does so before the first trial, and an asker has threads and locks."""
    searcher = StoreSearcher(Asker(make_sweep(), Store(str(tmp_path / "s"))))
    assert searcher.suggest("a") is not None
    assert len(pickle.dumps(searcher)) < 100


def test_it_is_not_finished_while_a_trial_may_come_back(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    searcher = StoreSearcher(Asker(make_sweep(num_trials=1), store, num_slots=1))
    given = searcher.suggest("a")
    assert searcher.suggest("b") is None
    store.write_record(invented_record(given["key"], store.read_config(given["key"])), driver_epoch=0)
    searcher.on_trial_complete("a")
    assert searcher.suggest("b") == Searcher.FINISHED
