"""Which training of a confirmation comes next: look by look, from the store alone, and nothing of a sweep's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study import ask_writer
from prunedlora.study.asker import Asker
from prunedlora.study.confirm_asker import ConfirmAsker
from prunedlora.study.handed_out import MOST_LOST
from tests.inventions import invented_record, sweep_tree

FIRST, ALL = ("a1", "b1"), ("a1", "b1", "a2", "b2")


@pytest.fixture
def config(tmp_path: Path) -> SweepConfig:
    trial = sweep_tree(tmp_path / "store")["trial"]
    return parse_sweep(sweep_tree(tmp_path / "store", num_trials=0, space={}, baselines=[{}], trial=trial), "test")


@pytest.fixture
def store(config: SweepConfig) -> Store:
    store = Store(config.storage)
    store.create_or_open(config.model_dump(mode="json"))
    return store


def asker_of(store: Store, config: SweepConfig) -> ConfirmAsker:
    """Both of one look; then both of another, where the first of them was not stopped."""

    def wanted(records: Sequence[TrialRecord]) -> Sequence[str]:
        ended = {record.key: record for record in records}
        more = all(key in ended for key in FIRST) and ended["a1"].status != "stopped"
        return ALL if more else FIRST

    trials = {key: config.trial.model_copy(update={"seed": number}) for number, key in enumerate(ALL, start=1)}
    return ConfirmAsker(store, trials, wanted)


def end(asker: ConfirmAsker, store: Store, ask: Ask, status: str = "completed") -> None:
    store.write_record(invented_record(ask.key, store.read_config(ask.key), status), driver_epoch=0)
    asker.end(ask.number)


def run(asker: ConfirmAsker, store: Store, most: int = 9) -> list[str]:
    ran: list[str] = []
    while len(ran) < most and (ask := asker.next()) is not None:
        ran.append(ask.key)
        end(asker, store, ask)
    return ran


def test_a_look_waits_for_all_of_the_one_before(store: Store, config: SweepConfig) -> None:
    asker = asker_of(store, config)
    assert (asker.num_left, asker.num_kept, asker.num_resumed, asker.finished) == (4, 0, 0, False)
    first, second = asker.next(), asker.next()
    assert first is not None
    assert second is not None
    assert [(ask.key, ask.kind) for ask in (first, second)] == [("a1", "confirm"), ("b1", "confirm")]
    assert store.read_config("a1")["seed"] == 1
    end(asker, store, first)
    assert (asker.next(), asker.finished) == (None, False)
    end(asker, store, second)
    assert run(asker, store) == ["a2", "b2"]
    assert (asker.num_left, asker.finished) == (0, True)
    assert [record.key for record in asker.records] == ["a1", "b1", "a2", "b2"]


def test_it_ends_where_nothing_more_is_wanted(store: Store, config: SweepConfig) -> None:
    asker = asker_of(store, config)
    first, second = asker.next(), asker.next()
    assert first is not None
    assert second is not None
    end(asker, store, first, "stopped")
    end(asker, store, second)
    assert (asker.next(), asker.finished, asker.num_left) == (None, True, 0)


@pytest.mark.parametrize("killed_after", [0, 1, 2, 3, 4])
def test_killed_and_resumed_is_as_uninterrupted(store: Store, config: SweepConfig, killed_after: int) -> None:
    dead = asker_of(store, config)
    ran = run(dead, store, killed_after)
    in_flight = dead.next()
    dead.close()
    again = asker_of(store, config)
    assert (again.num_kept, again.num_resumed) == (killed_after, int(in_flight is not None))
    assert ran + run(again, store) == list(ALL)
    assert [ask.key for ask in store.asks()] == list(ALL)


def test_a_sweep_and_a_confirmation_leave_each_other_alone(store: Store, config: SweepConfig) -> None:
    """What a sweep has in flight is none of its trials; of its own in flight, a sweep that goes on takes care."""
    sweep = Asker(config, store)
    baseline = sweep.next()
    assert baseline is not None
    sweep.close()
    asker = asker_of(store, config)
    assert asker.num_resumed == 0
    mine = asker.next()
    assert mine is not None
    assert mine.number == baseline.number + 1
    asker.close()
    later = Asker(config, store)
    assert later.num_resumed == 2
    assert later.num_left == 2
    later.close()


def test_one_that_is_lost_is_handed_out_again(
    store: Store, config: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", ())
    asker = asker_of(store, config)
    for _ in range(MOST_LOST):
        ask = asker.next()
        assert ask is not None
        assert ask.key == "a1"
        assert asker.end(ask.number) is None
    assert "a1 ended 3 times without a record" in asker.problems[0]
    assert run(asker, store) == ["b1"]
    assert (asker.next(), asker.finished) == (None, True)


def test_once_closed_it_hands_out_nothing(store: Store, config: SweepConfig) -> None:
    asker: Any = asker_of(store, config)
    asker.stop()
    assert asker.next() is None
    assert store.asks() == []
