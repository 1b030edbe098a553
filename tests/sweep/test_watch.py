"""What the driver does while trials run and at the end, on a board in this process."""

import asyncio
import io
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from rich.console import Console

from prunedlora.config.sweep import SweepConfig
from prunedlora.fleet.board import Board
from prunedlora.fleet.slots import SlotsLostError
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.driver_lock import DriverLockedError
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.sweep import slot_run
from prunedlora.sweep import watch as watch_module
from prunedlora.sweep.device_hours import Meter
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.run import BASE_WORK
from prunedlora.sweep.signals import TERMINATED
from prunedlora.sweep.slot_news import SlotNews

Make = Callable[..., SweepConfig]


class Here:
    """A real board whose methods are called as those of an actor, each answered at once."""

    def __init__(self, loop: asyncio.Runner) -> None:
        self.board = Board()
        self.called: list[str] = []
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        def remote(*given: Any, **named: Any) -> Any:
            self.called.append(name)
            return self._loop.run(getattr(self.board, name)(*given, **named))

        return SimpleNamespace(remote=remote)


class FakeSlots:
    """Slots of which none is lost, until it is said."""

    def __init__(self) -> None:
        self.closed: dict[int, str] = {}
        self.lost = False

    def check(self) -> None:
        if self.lost:
            raise SlotsLostError("no slot is left")

    def waiting_text(self, snapshot: dict[str, Any]) -> str:
        return "waiting for resources: none"


class FakeTune:
    """In the place of Tune's run: it goes on for some looks, at each of which something happens."""

    def __init__(self, *looks: Callable[[], object], error: Exception | None = None) -> None:
        self._looks = [*looks]
        self._error = error
        self.run: Future[None] = Future()

    def wait(self, runs: list[Future[None]], seconds: float) -> None:
        assert runs == [self.run]
        self._looks.pop(0)()
        if not self._looks and self._error is None:
            self.run.set_result(None)
        elif not self._looks:
            self.run.set_exception(self._error)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setattr(ray, "get", lambda value: value)
    with asyncio.Runner() as loop:
        yield Here(loop)


def shown(config: SweepConfig, store: Store) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    return Progress(store, Objectives.parse(config.objectives), 3, Console(file=text, width=200), ()), text


def watch(config: SweepConfig, board: Here, looks: list[Callable[[], object]], signals: Any, **more: Any) -> Any:
    """Watches; `more` may replace the asker, the lock, `grow`, the deadline and the meter."""
    store = Store(config.storage)
    progress, _ = shown(config, store)
    with pytest.MonkeyPatch.context() as patch:
        tune = FakeTune(*looks, error=more.get("error"))
        patch.setattr(watch_module, "run_tune", lambda *_: tune.run)
        patch.setattr(watch_module.futures, "wait", tune.wait)
        return watch_module.watch(
            board,
            more.get("asker") or Asker(config, store),
            FakeSlots(),  # type: ignore[arg-type]
            more.get("lock") or SimpleNamespace(check=lambda: None),  # type: ignore[arg-type]
            signals,
            progress,
            SlotNews(progress),
            more.get("deadline", float("inf")),
            more.get("grow", lambda: None),
            meter=more.get("meter"),
        )


def no_signals() -> Any:
    return SimpleNamespace(received=None, watching=False)


def test_what_tune_fails_with_is_raised_once_the_trials_are_paused(board: Here, make_sweep: Make) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        watch(make_sweep(), board, [lambda: None], no_signals(), error=OSError(28, "No space left on device"))
    assert "pause" in board.called


def test_as_many_trials_are_out_as_slots_that_serve_and_one_more(board: Here, make_sweep: Make) -> None:
    """Slots that were opened and wait for a node, for hours perhaps, are asked no trials for; nor are closed ones."""
    config = make_sweep()
    asker = Asker(config, Store(config.storage))
    seen: list[int] = []

    def look(*calls: tuple[Any, ...]) -> Callable[[], object]:
        def happen() -> None:
            seen.append(asker.num_concurrent)
            for name, *given in calls:
                getattr(board, name).remote(*given)

        return happen

    opened = [("open", slot) for slot in range(8)] + [("wait_for_place", slot) for slot in range(8)]
    looks = [
        look(*opened),
        look(("join", 0, "10.0.0.0")),
        look(*[("join", slot, "10.0.0.1") for slot in (1, 2, 3)]),
        look(("lose", 1), ("shut", 1), ("lose", 2), ("wait_for_place", 2)),
        look(("lose", 0)),
        look(),
    ]
    watch(config, board, looks, no_signals(), asker=asker)
    assert seen == [2, 2, 2, 5, 3, 3]


@pytest.mark.parametrize("why", ["interrupted", "the time is up", "the device hours are spent"])
def test_no_slot_is_added_once_the_end_begins(
    why: str, board: Here, make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals, clock, grown = no_signals(), [0.0], []
    meter = Meter(1.0, before=3599.0, devices=1.0, clock=lambda: 0.0)
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def end() -> None:
        if why == "interrupted":
            signals.received = signal.SIGINT
        elif why == "the time is up":
            clock[0] = 11.0
        else:
            meter.device_seconds = 3600.0

    looks: list[Callable[[], object]] = [lambda: None, end, lambda: None]
    more = {"deadline": 10.0, "grow": lambda: grown.append(board.called[:]), "meter": meter}
    ending = watch(make_sweep(), board, looks, signals, **more)
    assert ending == why
    assert grown == [["snapshot"]]
    assert board.called == ["snapshot", "snapshot", "pause", "snapshot"]


def test_at_sigterm_trials_are_paused_before_a_write_in_progress_is_waited_for(
    board: Here, make_sweep: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "TERM_SECONDS", 0.3)
    config = make_sweep()
    asker = Asker(config, Store(config.storage))
    lock = SimpleNamespace(check=lambda: None, release=lambda: board.called.append("release"))
    signals = SimpleNamespace(received=signal.SIGTERM, watching=False)
    began = time.monotonic()
    with asker._writer._writing, pytest.raises(SystemExit) as end:  # an object store takes its time
        watch(config, board, [lambda: None], signals, asker=asker, lock=lock)
    assert end.value.code == TERMINATED
    assert board.called == ["snapshot", "pause", "snapshot", "release"]
    assert 0.25 < time.monotonic() - began < 5
    assert asker.next() is None


def end_of(config: SweepConfig, board: Here, **run: Any) -> tuple[Any, Any, io.StringIO]:
    progress, text = shown(config, Store(config.storage))
    given = {"deadline": float("inf"), "lock": SimpleNamespace(check=lambda: None)} | run
    slots = FakeSlots()
    end: Any = SimpleNamespace(
        run=SimpleNamespace(**given), board=board, slots=slots, progress=progress, news=SlotNews(progress)
    )
    return end, slots, text


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_run, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(slot_run, "PLACELESS_SECONDS", 0.1)


def test_the_end_does_not_wait_for_ever_for_a_place(board: Here, make_sweep: Make, soon: None) -> None:
    """And what happens meanwhile is told."""
    board.put_work.remote(BASE_WORK, later=True)
    board.open.remote(0)
    board.wait_for_place.remote(0)
    end, slots, text = end_of(make_sweep(), board)
    slots.closed[1] = "slot 1 was closed after 3 failures"
    assert "no slot had a place for 0.1 s; the same command goes on" in slot_run._wait_for(end, BASE_WORK)
    lines = text.getvalue().splitlines()
    assert lines[:2] == ["slot 1 was closed after 3 failures", "waiting for resources: none"]
    assert "1 of 1 slots wait for resources" in lines[2]


def test_the_end_waits_for_a_slot_that_serves(board: Here, make_sweep: Make, soon: None) -> None:
    board.put_work.remote(BASE_WORK, later=True)
    board.join.remote(0, "10.0.0.0")
    board.take.remote(0, 1, 0)
    looks = iter(range(30))  # 0.3 s, three times what is waited without a slot

    def check() -> None:
        if next(looks, None) is None:
            board.finish.remote(0, 1, "completed", 1.0)

    end, _, _ = end_of(make_sweep(), board, lock=SimpleNamespace(check=check))
    assert slot_run._wait_for(end, BASE_WORK) == "completed"


def test_a_driver_that_was_replaced_notices_at_the_end_too(board: Here, make_sweep: Make, soon: None) -> None:
    def check() -> None:
        raise DriverLockedError("was taken over by another")

    board.join.remote(0, "10.0.0.0")
    end, _, _ = end_of(make_sweep(), board, lock=SimpleNamespace(check=check))
    with pytest.raises(DriverLockedError, match="was taken over by another"):
        slot_run._wait_for(end, BASE_WORK)


def test_the_end_is_told_when_no_slot_is_left_or_the_time_is_up(board: Here, make_sweep: Make, soon: None) -> None:
    board.join.remote(0, "10.0.0.0")
    end, slots, _ = end_of(make_sweep(), board, deadline=0.0)
    assert slot_run._wait_for(end, BASE_WORK).startswith("the time is up, and no slot was free for it")
    slots.lost = True
    assert slot_run._wait_for(end, BASE_WORK) == "no slot is left"
