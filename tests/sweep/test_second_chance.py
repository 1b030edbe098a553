"""Which of the trials that were stopped go on once everything else has ended, and how they are handed out."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import PlannedSize
from prunedlora.results.ask import Ask
from prunedlora.results.record import Decision, Figure, Look, StoredLook
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.handed_out import MOST_LOST
from prunedlora.sweep.judging import Judging
from prunedlora.sweep.second_chance import SecondChance
from tests.inventions import invented_record, sweep_tree


def planner(config: TrialConfig) -> Sequence[PlannedSize]:
    assert config.adapter is not None
    size = 100.0 * (config.adapter.initial_rank or 0)
    return [PlannedSize(1.0, {"adapter_params": (size, size)})]


class Sweep:
    """A store of trials that were looked at after the first of ten steps."""

    def __init__(self, folder: Path) -> None:
        tree = sweep_tree(folder / "store", stopping={"then": "pause"})
        self.config = parse_sweep(tree, "test")
        self.store = Store(self.config.storage)
        self.store.create_or_open(tree)
        judging = Judging.of(self.config, self.store, planner)
        assert judging is not None
        self.judging = judging
        self.asks: list[Ask] = []

    def add(self, key: str, status: str, loss: float, rank: int = 8, *, step: int = 1, is_paused: bool = True) -> None:
        if all(ask.key != key for ask in self.asks):
            ask = Ask(
                number=len(self.asks), key=key, kind="search", params={}, distributions={}, system_attrs={}
            )  # fmt: skip
            self.asks.append(ask)
            self.store.write_ask(ask)
        trial = self.config.trial.model_dump(mode="json")
        trial["adapter"]["initial_rank"] = rank
        self.store.write_config(key, trial)
        stops = Decision(stops=status == "stopped", peers={"someone": 0.0})
        figure = Figure(value=loss, stderr=0.001, num_examples=2)
        look = Look(step=step, share=step / 10, loss=figure, decision=stops)
        self.store.write_look(key, StoredLook(look=look, loss_sums=(loss, loss), num_targets=(1, 1)))
        if status == "in flight":
            return
        looks = tuple(stored.look for stored in self.store.looks(key))
        record: Any = invented_record(key, trial, status)
        self.store.write_record(record.model_copy(update={"looks": looks}), driver_epoch=1)
        if status == "stopped" and is_paused:
            self.store.storage.write_text(self.store.trial_path(key, "checkpoints", "00000001-000", "x"), "x")

    def going_on(self) -> list[str]:
        return [ask.key for ask, _ in self.judging.going_on()]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def test_who_was_stopped_by_what_never_came_goes_on_the_best_first(sweep: Sweep) -> None:
    sweep.add("a", "completed", 0.5)
    sweep.add("b", "completed", 0.4)
    sweep.add("beaten", "stopped", 1.0)
    # Smaller than all that were completed: those who promised more had failed, or were stopped themselves.
    sweep.add("failed", "failed", 0.1, rank=2)
    sweep.add("p", "stopped", 0.9, rank=4)
    sweep.add("q", "stopped", 0.8, rank=4)
    assert sweep.going_on() == ["q", "p"]
    assert sweep.going_on() == ["q", "p"]  # as was decided, by another driver too
    goes_on = sweep.store.read_goes_on("q")
    assert goes_on is not None
    assert (goes_on.step, goes_on.decision.stops) == (1, False)
    assert sweep.store.read_goes_on("beaten") is None
    sweep.add("q", "stopped", 0.8, rank=4, step=5)  # it went on, and was stopped for good
    sweep.add("p", "completed", 0.9, rank=4)
    assert sweep.going_on() == []


def test_a_decision_to_go_on_stands_whatever_comes(sweep: Sweep) -> None:
    sweep.add("p", "stopped", 0.9)
    assert sweep.going_on() == ["p"]
    for key in "abc":
        sweep.add(key, "completed", 0.1, rank=2)
    assert sweep.going_on() == ["p"]


def test_without_a_checkpoint_nothing_goes_on(sweep: Sweep) -> None:
    sweep.add("p", "stopped", 0.9, is_paused=False)
    assert sweep.going_on() == []


def test_a_judge_of_the_store_knows_what_is_in_flight(sweep: Sweep) -> None:
    sweep.add("a", "in flight", 0.1)
    sweep.add("b", "in flight", 0.2)
    sweep.add("c", "in flight", 0.9)
    found = sweep.judging.judge().decide("c", 0.1)
    assert found is not None
    assert found["stops"]
    assert found["peers"] == {"a": 0.1, "b": 0.2}


class Asks:
    """An asker that hands out one trial."""

    def __init__(self) -> None:
        self.waiting, self.out, self.is_over = [ask(0)], 0, False
        self.noted: list[Any] = []
        self.records: list[Any] = []
        self.problems: list[str] = []

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.out

    @property
    def num_left(self) -> int:
        return len(self.waiting) + self.out

    def next(self) -> Ask | None:
        self.out += bool(self.waiting)
        return self.waiting.pop() if self.waiting else None

    def end(self, number: int) -> None:
        assert number == 0
        self.out -= 1

    def note(self, record: Any) -> None:
        self.noted.append(record)

    def stop(self) -> None:
        self.is_over = True


def ask(number: int) -> Ask:
    return Ask(number=number, key=f"k{number}", kind="search", params={}, distributions={}, system_attrs={})


def handed_out(source: SecondChance) -> list[str]:
    found = []
    while (each := source.next()) is not None:
        found.append(each.key)
    return found


def test_they_follow_when_all_else_has_ended_round_by_round() -> None:
    asker, rounds = Asks(), [[(ask(3), 0.1), (ask(2), 0.2)], [(ask(1), 0.3)], []]
    store: Any = SimpleNamespace(read_record=lambda key: f"record of {key}")
    source = SecondChance(asker, store, lambda: rounds.pop(0))  # type: ignore[arg-type]
    assert source.num_left == 1
    assert handed_out(source) == ["k0"]
    assert not source.finished
    source.end(0)
    assert handed_out(source) == ["k3", "k2"]
    assert (source.num_left, source.finished) == (2, False)
    assert source.end(3) == "record of k3"
    assert handed_out(source) == []
    source.end(2)
    assert handed_out(source) == ["k1"]
    source.end(1)
    assert handed_out(source) == []
    assert source.finished
    assert rounds == []
    assert asker.noted == ["record of k3", "record of k2", "record of k1"]


def test_one_that_never_ends_is_left_out_and_none_follows_the_end() -> None:
    asker = Asks()
    asker.waiting.clear()
    store: Any = SimpleNamespace(read_record=lambda key: None)
    source = SecondChance(asker, store, lambda: [(ask(1), 0.1)])  # type: ignore[arg-type]
    assert source.num_left == 1  # known from the start: a run that has nothing else to do begins for it
    for _ in range(MOST_LOST):
        assert handed_out(source) == ["k1"]
        source.end(1)
    assert handed_out(source) == []
    assert source.finished
    (problem,) = source.problems
    assert problem.startswith("trial k1, which was stopped and was to go on, ended 3 times as it was")
    source = SecondChance(asker, store, lambda: [(ask(1), 0.1)])  # type: ignore[arg-type]
    source.stop()
    assert asker.is_over
    assert handed_out(source) == []


def test_what_it_says_beside_is_the_askers(sweep: Sweep) -> None:
    sweep.add("a", "completed", 0.5)
    asker = Asker(sweep.config, sweep.store)
    source = SecondChance(asker, sweep.store, sweep.judging.going_on)
    source.num_slots = 3
    assert (source.num_slots, source.num_concurrent) == (3, 4) == (asker.num_slots, asker.num_concurrent)
    assert (source.num_kept, source.num_resumed, source.num_repeats) == (1, 0, 0)
    assert (source.records, source.problems) == (asker.records, [])
    assert source.close()


def test_what_a_trial_ended_as_the_asker_knows(sweep: Sweep) -> None:
    for key in "ab":
        sweep.add(key, "stopped", 0.5)
    sweep.config = sweep.config.model_copy(update={"num_trials": 2})
    asker = Asker(sweep.config, sweep.store)
    source = SecondChance(asker, sweep.store, sweep.judging.going_on)
    assert handed_out(source) == ["a", "b"]
    sweep.add("a", "completed", 0.5)
    source.end(0)
    assert {record.key: record.status for record in asker.records} == {"a": "completed", "b": "stopped"}


@pytest.mark.parametrize("keep", [False, True])
def test_checkpoints_of_those_that_stay_stopped_go_once_all_has_ended(sweep: Sweep, *, keep: bool) -> None:
    sweep.add("a", "completed", 0.5)
    sweep.add("b", "completed", 0.4)
    sweep.add("beaten", "stopped", 1.0)
    sweep.add("p", "stopped", 0.9, rank=2)
    whole = Asker(sweep.config, sweep.store)
    assert not whole.finished
    SecondChance(whole, sweep.store, sweep.judging.going_on)
    assert sweep.store.checkpoints("beaten")  # there is more to ask
    asker = Asker(sweep.config.model_copy(update={"num_trials": 4}), sweep.store)
    source = SecondChance(asker, sweep.store, sweep.judging.going_on, keep_checkpoints=keep)
    assert handed_out(source) == ["p"]
    assert sweep.store.checkpoints("beaten")  # who beat it could still
    sweep.add("p", "completed", 0.9, rank=2)
    source.end(3)
    assert handed_out(source) == []
    assert bool(sweep.store.checkpoints("beaten")) is keep
