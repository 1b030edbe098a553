"""Watch: Tune tries trials in a thread, while the main thread shows progress and looks for reasons to end."""

import signal
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from typing import Any

from prunedlora.fleet.answers import BoardLostError, answer
from prunedlora.fleet.searcher import StoreSearcher
from prunedlora.fleet.slots import Slots
from prunedlora.fleet.tune_run import run_tune
from prunedlora.results.ask import Ask
from prunedlora.results.driver_lock import DriverLock
from prunedlora.sweep.device_hours import Meter
from prunedlora.sweep.outcome import Ending
from prunedlora.sweep.progress import Progress
from prunedlora.sweep.signals import TERM_SECONDS, TERMINATED, Signals
from prunedlora.sweep.slot_news import SlotNews
from prunedlora.sweep.terms import TrialSource

WATCH_SECONDS = 1.0
PAUSE_SECONDS = 600.0
"""Given to running trials to write a checkpoint when the sweep ends early. A worker that hangs must not keep it."""


def nothing_about(ask: Ask) -> None:
    """What a board without a judge must know of a trial."""


def watch(
    board: Any,
    asker: TrialSource,
    slots: Slots,
    lock: DriverLock,
    signals: Signals,
    progress: Progress,
    news: SlotNews,
    deadline: float,
    grow: Callable[[], None],
    about: Callable[[Ask], dict[str, Any] | None] = nothing_about,
    *,
    meter: Meter | None = None,
) -> Ending:
    """Has all trials tried that the asker hands out; returns why it ended. `deadline`: by time.monotonic().

    `grow` is called again and again until the end begins: it starts slots where there is room for more. As many trials
    are out as the slots that serve can take, and one more. `about`: what the board's judge must know of a trial.
    `meter`: sees what slots are busy for, and ends it all when that is enough.

    Raises SlotsLostError when no slot is left, DriverLockedError when another driver took over, SystemExit at SIGTERM.
    """
    ending: Ending = "all trials are done"
    searcher = StoreSearcher(asker, about)
    paused_at = float("inf")
    trials = run_tune(searcher, board)
    signals.watching = True
    try:
        while not trials.done():
            futures.wait([trials], WATCH_SECONDS)
            snapshot = answer(board.snapshot.remote())
            news.tell(snapshot, slots)
            slots.check()
            lock.check()
            progress.update(snapshot)
            asker.num_slots = max(1, num_serving(snapshot))
            if signals.received is signal.SIGTERM:
                _leave(board, searcher, asker, lock)
            if meter is not None:
                meter.see(snapshot)
            if ending == "all trials are done" and (reason := _reason_to_end(signals, deadline, meter)) is not None:
                ending = reason
                progress.say(f"{ending}: trials in training write a checkpoint and go on in the next run")
                searcher.end()
                answer(board.pause.remote())
                paused_at = time.monotonic()
            if ending == "all trials are done":
                grow()
            if time.monotonic() > paused_at + PAUSE_SECONDS:
                progress.say(
                    f"trials in training gave no answer in {PAUSE_SECONDS:g} s: they go on from their last checkpoint"
                )
                break
    except SystemExit:  # `_leave` has paused what there was
        raise
    except BaseException:
        _pause(board, searcher, asker)
        raise
    finally:
        signals.watching = False
    if trials.done() and (error := trials.exception()) is not None:
        _pause(board, searcher, asker)
        raise error
    asker.close()
    return ending


def _reason_to_end(signals: Signals, deadline: float, meter: Meter | None) -> Ending | None:
    if signals.received:
        return "interrupted"
    if time.monotonic() > deadline:
        return "the time is up"
    return "the device hours are spent" if meter is not None and meter.is_spent else None


def num_serving(snapshot: dict[str, Any]) -> int:
    """Slots that have started and have a place. `snapshot`: the board's."""
    return sum(slot["serves"] for slot in snapshot["slots"].values())


def _pause(board: Any, searcher: StoreSearcher, asker: TrialSource) -> None:
    """Before an error goes on: trials in training write a checkpoint, and no ask is written any more."""
    searcher.end()
    with suppress(BoardLostError):  # the board may be what is lost: the error that goes on is the one to tell
        answer(board.pause.remote())
    asker.close()


def _leave(board: Any, searcher: StoreSearcher, asker: TrialSource, lock: DriverLock) -> None:
    """Leaves within TERM_SECONDS: what could not write a checkpoint by then begins at its last one. An ask that is
    still being written then ends with the process."""
    deadline = time.monotonic() + TERM_SECONDS
    searcher.end()
    try:
        answer(board.pause.remote())
        while time.monotonic() < deadline and answer(board.snapshot.remote())["running"]:
            time.sleep(0.1)
    except BoardLostError:
        pass  # the signal went to the whole process group, and Ray was faster: the last checkpoints have to do
    asker.close(max(0.0, deadline - time.monotonic()))
    lock.release()
    raise SystemExit(TERMINATED)
