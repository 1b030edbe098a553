import asyncio
import subprocess
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

from prunedlora.fleet.board import WAIT, Board, Work

T = TypeVar("T")
BASE: Work = {"kind": "base", "key": "", "candidate": ""}


def run(coroutine: Awaitable[T]) -> T:
    async def whole() -> T:
        return await asyncio.wait_for(coroutine, 5)

    return asyncio.run(whole())


def trial(key: str) -> Work:
    return {"kind": "trial", "key": key, "candidate": ""}


def test_trials_are_taken_in_order_and_their_candidates_come_back() -> None:
    async def story() -> None:
        board = Board()
        await board.put("a")
        await board.put("b")
        await board.put("a")
        await board.join(0)
        assert await board.take(0, 0) == trial("a")
        assert await board.report("a", {"step": 1}) == "continue"
        assert await board.candidates("a", 0, 0) == ([{"step": 1}], None)
        assert await board.candidates("a", 1, 0) == ([], None)
        await board.finish(0, "completed", 1.5)
        assert await board.candidates("a", 1, 9) == ([], "completed")
        assert await board.take(0, 0) == trial("b")
        snapshot = await board.snapshot()
        assert snapshot["ended"] == {"a": "completed"}
        assert snapshot["slots"][0]["busy_seconds"] == 1.5
        assert (snapshot["queued"], snapshot["running"]) == (0, 1)

    run(story())


def test_waiting_ends_when_something_comes() -> None:
    async def story() -> None:
        board = Board()
        await board.join(0)
        assert await board.take(0, 0.01) == WAIT
        taking = asyncio.create_task(board.take(0, 60))
        await asyncio.sleep(0)
        await board.put("a")
        assert await taking == trial("a")
        watching = asyncio.create_task(board.candidates("a", 0, 60))
        await asyncio.sleep(0)
        await board.finish(0, "failed", 0.0)
        assert await watching == ([], "failed")
        ending = asyncio.create_task(board.take(0, 60))
        await asyncio.sleep(0)
        await board.close()
        assert await ending is None

    run(story())


def test_what_a_dead_slot_had_in_hand_goes_first() -> None:
    async def story() -> None:
        board = Board()
        for key in ("a", "b"):
            await board.put(key)
        assert await board.join(0) == 1
        await board.take(0, 0, 1)
        assert await board.join(0) == 2
        assert await board.take(0, 0, 2) == trial("a")
        await board.give_up(0)
        await board.join(1)
        assert await board.take(1, 0) == trial("a")
        assert (await board.snapshot())["slots"][0]["state"] == "given up"
        await board.finish(0, "completed", 1.0)
        assert (await board.candidates("a", 0, 0))[1] is None

    run(story())


def test_a_question_left_over_from_dead_workers_gets_no_work() -> None:
    async def story() -> None:
        board = Board()
        await board.join(0)
        left_over = asyncio.create_task(board.take(0, 60, 1))
        await asyncio.sleep(0)
        await board.join(0)
        assert await left_over == WAIT
        await board.put("a")
        assert await board.take(0, 0, 2) == trial("a")

    run(story())


def test_an_evaluation_that_kills_its_workers_is_left_out() -> None:
    """It comes after the trials when it is tried again, and does not take slot after slot with it."""

    async def story() -> None:
        board = Board()
        await board.put_work(BASE, later=True)
        await board.join(0)
        assert await board.take(0, 0, 1) == BASE
        await board.put("a")
        await board.join(0)
        assert await board.take(0, 0, 2) == trial("a")
        await board.finish(0, "completed", 1.0)
        assert await board.take(0, 0, 2) == BASE
        await board.join(0)
        assert await board.take(0, 0, 3) == WAIT
        assert await board.outcome("base", 0) == "its workers died 2 times"

    run(story())


def test_pause_ends_queued_trials_at_once_and_running_ones_when_they_ask() -> None:
    async def story() -> None:
        board = Board()
        for key in ("a", "b"):
            await board.put(key)
        await board.join(0)
        await board.take(0, 0)
        await board.pause()
        assert await board.candidates("b", 0, 0) == ([], "paused")
        assert await board.progress(0, 3, 10) == "pause"
        assert await board.report("a", {}) == "pause"
        await board.finish(0, "paused", 1.0)
        assert (await board.candidates("a", 1, 0))[1] == "paused"
        await board.put("c")
        assert (await board.candidates("c", 0, 0))[1] == "paused"
        assert await board.take(0, 0) == WAIT
        assert await board.num_finished(0) == 0

    run(story())


def test_a_trial_whose_slot_dies_while_pausing_is_paused() -> None:
    async def story() -> None:
        board = Board()
        await board.put("a")
        await board.join(0)
        await board.take(0, 0)
        await board.pause()
        await board.join(0)
        assert (await board.candidates("a", 0, 0))[1] == "paused"
        assert await board.take(0, 0) == WAIT

    run(story())


def test_work_for_later_waits_for_trials() -> None:
    async def story() -> None:
        board = Board()
        await board.put_work(BASE, later=True)
        await board.put("a")
        await board.join(0)
        assert await board.take(0, 0) == trial("a")
        await board.finish(0, "completed", 0.0)
        assert await board.take(0, 0) == BASE
        assert await board.outcome("base", 0) is None
        await board.finish(0, "failed", 0.0, "no such model")
        assert await board.outcome("base", 5) == "no such model"

    run(story())


def test_board_and_proxy_import_no_torch() -> None:
    code = "import sys, prunedlora.fleet.board, prunedlora.fleet.proxy; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_candidates_are_forwarded_flat() -> None:
    from prunedlora.fleet.proxy import flat_figures

    sizes: dict[str, Any] = dict.fromkeys(
        ("step", "progress", "adapter_params", "adapter_bytes", "max_rank", "served_slot", "train_seconds"), 1
    )
    flat = flat_figures({"figures": {"accuracy": {"value": 0.5, "stderr": 0.1}}, "ranks": {"x": 1}, **sizes})
    assert flat == {"accuracy": 0.5, **sizes}
