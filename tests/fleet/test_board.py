import asyncio
import subprocess
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

from prunedlora.fleet.board import GONE, REPLACED, WAIT, Board, Work, work_name
from prunedlora.fleet.failure_count import FailureCount

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
        await board.join(0, "10.0.0.0")
        assert await board.take(0, 1, 0) == trial("a")
        assert await board.report(0, 1, "a", {"step": 1}) == "continue"
        assert await board.candidates("a", 0, 0) == ([{"step": 1}], None)
        assert await board.candidates("a", 1, 0) == ([], None)
        await board.finish(0, 1, "completed", 1.5)
        assert await board.candidates("a", 1, 9) == ([], "completed")
        assert await board.take(0, 1, 0) == trial("b")
        snapshot = await board.snapshot()
        assert snapshot["ended"] == {"a": "completed"}
        assert snapshot["slots"][0]["busy_seconds"] == 1.5
        assert (snapshot["queued"], snapshot["running"]) == (0, 1)

    run(story())


class Judging:
    """A judge that remembers what it was told, and stops every trial."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, key: str, about: Any) -> None:
        self.told.append(("begin", key, about))

    def look(self, key: str, look: Any, is_decided: bool) -> dict[str, Any] | None:
        self.told.append(("look", key, look, is_decided))
        return None if is_decided else {"stops": True}

    def end(self, key: str, status: str) -> None:
        self.told.append(("end", key, status))


def test_the_judge_hears_of_trials_and_looks_and_its_decision_goes_back() -> None:
    async def story() -> None:
        judge = Judging()
        board = Board(judge)
        for _ in range(2):  # a proxy that died puts it again
            await board.put("a", {"sizes": [1]})
        await board.put("b", {"sizes": [2]})
        start = await board.join(0, "10.0.0.0")
        await board.take(0, start, 0)
        assert await board.look(0, start, "a", {"share": 0.1}, False) == {
            "answer": "continue", "decision": {"stops": True}
        }  # fmt: skip
        assert (await board.look(0, start, "a", {"share": 0.1}, True))["decision"] is None
        assert await board.look(0, start - 1, "a", {}, False) == {"answer": REPLACED, "decision": None}
        await board.finish(0, start, "stopped", 1.0)
        await board.put("a", {"sizes": [1]})  # it goes on
        await board.take(0, start, 0)
        await board.pause()
        assert (await board.look(0, start, "b", {}, False))["answer"] == "pause"
        await board.finish(0, start, "paused", 1.0)
        assert judge.told == [
            ("begin", "a", {"sizes": [1]}),
            ("begin", "b", {"sizes": [2]}),
            ("look", "a", {"share": 0.1}, False),
            ("look", "a", {"share": 0.1}, True),
            ("end", "a", "stopped"),
            ("begin", "a", {"sizes": [1]}),
            ("look", "b", {}, False),
        ]
        nobody = Board()
        await nobody.put("a")
        await nobody.join(0, "10.0.0.0")
        await nobody.take(0, 1, 0)
        assert await nobody.look(0, 1, "a", {}, False) == {"answer": "continue", "decision": None}

    run(story())


def test_waiting_ends_when_something_comes() -> None:
    async def story() -> None:
        board = Board()
        await board.join(0, "10.0.0.0")
        assert await board.take(0, 1, 0.01) == WAIT
        taking = asyncio.create_task(board.take(0, 1, 60))
        await asyncio.sleep(0)
        await board.put("a")
        assert await taking == trial("a")
        watching = asyncio.create_task(board.candidates("a", 0, 60))
        await asyncio.sleep(0)
        await board.finish(0, 1, "failed", 0.0)
        assert await watching == ([], "failed")
        ending = asyncio.create_task(board.take(0, 1, 60))
        await asyncio.sleep(0)
        await board.close()
        assert await ending is None

    run(story())


def test_what_a_dead_slot_had_in_hand_goes_first() -> None:
    async def story() -> None:
        board = Board()
        for key in ("a", "b"):
            await board.put(key)
        assert await board.join(0, "10.0.0.0") == 1
        await board.take(0, 1, 0)
        assert await board.join(0, "10.0.0.0") == 2
        assert await board.take(0, 2, 0) == trial("a")
        await board.progress(0, 2, 1, 9, 10.0)
        standing = await board.lose(0)
        assert standing == {"node": "10.0.0.0", "num_advances": 0, "joined": True, "stepped": True}
        await board.shut(0)
        await board.join(1, "10.0.0.1")
        assert await board.take(1, 1, 0) == trial("a")
        assert (await board.snapshot())["slots"][0]["state"] == "closed"
        assert await board.finish(0, 2, "completed", 1.0) == REPLACED
        assert (await board.candidates("a", 0, 0))[1] is None

    run(story())


def test_a_question_left_over_from_dead_workers_gets_no_work() -> None:
    async def story() -> None:
        board = Board()
        await board.join(0, "10.0.0.0")
        left_over = asyncio.create_task(board.take(0, 1, 60))
        await asyncio.sleep(0)
        await board.join(0, "10.0.0.0")
        assert await left_over == GONE
        await board.put("a")
        assert await board.take(0, 2, 0) == trial("a")

    run(story())


def test_a_late_word_of_workers_that_were_replaced_ends_nothing() -> None:
    """Their node was thought lost, or their process took its time to die: others have the slot and its trial by now."""

    async def story() -> None:
        board = Board()
        await board.put("a")
        await board.join(0, "10.0.0.0")
        await board.take(0, 1, 0)
        await board.join(0, "10.0.0.1")
        for _ in range(2):
            assert await board.progress(0, 1, 9, 10, 10.0) == REPLACED
            assert await board.report(0, 1, "a", {"step": 9}) == REPLACED
            assert await board.advance(0, 1) == REPLACED
            assert await board.finish(0, 1, "failed", 1.0) == REPLACED
            await board.hand_back(0, 1, "late")
            assert await board.take(0, 1, 0) == GONE
            await board.take(0, 2, 0)
        assert await board.candidates("a", 0, 0) == ([], None)
        slot = (await board.snapshot())["slots"][0]
        assert (slot["state"], slot["work"], slot["step"]) == ("busy", trial("a"), 0)
        assert await board.finish(0, 2, "completed", 1.0) == "continue"
        assert await board.finish(0, 2, "completed", 1.0) == REPLACED
        assert await board.candidates("a", 0, 0) == ([], "completed")

    run(story())


def test_a_trial_that_is_handed_back_goes_to_another_slot_and_is_never_left_out() -> None:
    async def story() -> None:
        board = Board()
        await board.put("a")
        for slot in range(5):
            await board.join(slot, f"10.0.0.{slot}")
            assert await board.take(slot, 1, 0) == trial("a")
            await board.hand_back(slot, 1, "OSError: no Hub")
            assert (await board.snapshot())["slots"][slot]["state"] == "idle"
        assert await board.take(0, 1, 0) == trial("a")

    run(story())


def test_what_a_slot_has_handed_back_is_for_the_others_and_left_out_with_the_reason() -> None:
    async def story() -> None:
        board = Board()
        await board.put_work(BASE, later=True)
        for slot in range(4):
            await board.join(slot, f"10.0.0.{slot}")
        for slot in range(3):
            assert await board.outcome("base", 0) is None
            assert await board.take(slot, 1, 0) == BASE
            await board.hand_back(slot, 1, f"OSError: no Hub at {slot}")
            await board.lose(slot)
            start = await board.join(slot, f"10.0.0.{slot}")
            assert await board.take(slot, start, 0) == WAIT
        assert await board.outcome("base", 0) == "3 tries were given up, the last for OSError: no Hub at 2"
        assert await board.take(3, 1, 0) == WAIT

    run(story())


def test_tests_of_several_adapters_are_told_apart() -> None:
    """One that fails, or is handed back, is no matter of another's."""
    one: Work = {"kind": "test", "key": "a", "candidate": "10"}
    other: Work = {"kind": "test", "key": "a", "candidate": "20"}

    async def story() -> None:
        board = Board()
        await board.join(0, "10.0.0.0")
        for work in (one, other):
            await board.put_work(work, later=False)
        assert await board.take(0, 1, 0) == one
        await board.finish(0, 1, "failed", 1.0, "no such file")
        assert await board.outcome(work_name(one), 0) == "no such file"
        assert await board.outcome(work_name(other), 0) is None
        for start in (1, 2):
            assert await board.take(0, start, 0) == other
            await board.hand_back(0, start, "OSError: no Hub")
            await board.lose(0)
            await board.join(0, "10.0.0.0")
        assert "2 tries were given up" in str(await board.outcome(work_name(other), 0))
        await board.put_work(one, later=False)
        assert await board.take(0, 3, 0) == one

    run(story())


def test_no_slot_is_closed_by_an_evaluation_that_nobody_can_do() -> None:
    """The one slot there is tries it twice, one time fewer than closes it."""

    async def story() -> None:
        board, count = Board(), FailureCount(3)
        await board.put_work(BASE, later=True)
        await board.open(1)  # has never had a place
        while await board.outcome("base", 0) is None:
            start = await board.join(0, "10.0.0.0")
            assert await board.take(0, start, 0) == BASE
            await board.hand_back(0, start, "ModuleNotFoundError: lm_eval")
            assert count.note(await board.lose(0), died=False) is None
        assert count.in_a_row == 2
        assert "2 tries were given up, the last for ModuleNotFoundError" in str(await board.outcome("base", 0))

    run(story())


def test_a_slot_tries_again_what_it_has_handed_back_when_the_others_are_gone() -> None:
    async def story() -> None:
        board = Board()
        await board.put_work(BASE, later=True)
        for slot in range(3):
            await board.join(slot, f"10.0.0.{slot}")
        assert await board.take(0, 1, 0) == BASE
        await board.hand_back(0, 1, "OSError")
        taking = asyncio.create_task(board.take(0, 1, 60))
        await asyncio.sleep(0)
        await board.lose(1)
        await board.shut(1)
        await asyncio.sleep(0)
        assert not taking.done()
        await board.lose(2)
        await board.wait_for_place(2)
        assert await taking == BASE

    run(story())


def test_a_trial_that_has_ended_is_queued_again_when_it_is_put_again() -> None:
    """The driver saw no record of it: its proxy died too often, or the storage shows it late."""

    async def story() -> None:
        board = Board()
        await board.join(0, "10.0.0.0")
        for status in ("completed", "failed"):
            await board.put("a")
            await board.put("a")
            assert await board.take(0, 1, 0) == trial("a")
            await board.put("a")
            assert await board.take(0, 1, 0) == WAIT
            await board.report(0, 1, "a", {"step": 1})
            await board.finish(0, 1, status, 1.0)
            assert await board.candidates("a", 0, 0) == ([{"step": 1}], status)
        await board.pause()
        await board.put("a")
        assert await board.candidates("a", 0, 0) == ([], "paused")

    run(story())


def test_progress_of_a_slot_is_its_work_and_its_checkpoints() -> None:
    async def story() -> None:
        board = Board()
        await board.open(0)
        assert (await board.snapshot())["slots"][0]["state"] == "starting"
        assert await board.lose(0) == {"node": "", "num_advances": 0, "joined": False, "stepped": False}
        await board.wait_for_place(0)
        assert (await board.snapshot())["slots"][0]["state"] == "waiting for resources"
        await board.put("a")
        await board.join(0, "10.0.0.7")
        await board.take(0, 1, 0)
        assert await board.advance(0, 1) == "continue"
        assert await board.lose(0) == {"node": "10.0.0.7", "num_advances": 1, "joined": True, "stepped": False}
        await board.join(0, "10.0.0.7")
        await board.take(0, 2, 0)
        assert (await board.snapshot())["slots"][0]["last"] is None
        made = {"adapter_params": 9, "figures": {"accuracy": {"value": 0.5, "stderr": None}}, "ranks": {"q": 1}}
        await board.report(0, 2, "a", made)
        last = {"adapter_params": 9, "figures": {"accuracy": 0.5}}
        assert (await board.snapshot())["slots"][0]["last"] == last
        await board.finish(0, 2, "completed", 1.0)
        assert (await board.snapshot())["slots"][0]["last"] is None
        assert await board.lose(0) == {"node": "10.0.0.7", "num_advances": 2, "joined": True, "stepped": True}
        assert await board.lose(0) == {"node": "10.0.0.7", "num_advances": 2, "joined": False, "stepped": False}

    run(story())


def test_an_evaluation_that_kills_its_workers_is_left_out() -> None:
    """It comes after the trials when it is tried again, and does not take slot after slot with it."""

    async def story() -> None:
        board = Board()
        await board.put_work(BASE, later=True)
        await board.join(0, "10.0.0.0")
        assert await board.take(0, 1, 0) == BASE
        await board.put("a")
        await board.join(0, "10.0.0.0")
        assert await board.take(0, 2, 0) == trial("a")
        await board.finish(0, 2, "completed", 1.0)
        assert await board.take(0, 2, 0) == BASE
        await board.join(0, "10.0.0.0")
        assert await board.take(0, 3, 0) == WAIT
        assert await board.outcome("base", 0) == "its workers died 2 times"

    run(story())


def test_pause_ends_queued_trials_at_once_and_running_ones_when_they_ask() -> None:
    async def story() -> None:
        board = Board()
        for key in ("a", "b"):
            await board.put(key)
        await board.join(0, "10.0.0.0")
        await board.take(0, 1, 0)
        await board.pause()
        assert await board.candidates("b", 0, 0) == ([], "paused")
        assert await board.progress(0, 1, 3, 10, 10.0) == "pause"
        assert await board.report(0, 1, "a", {}) == "pause"
        await board.finish(0, 1, "paused", 1.0)
        assert (await board.candidates("a", 1, 0))[1] == "paused"
        await board.put("c")
        assert (await board.candidates("c", 0, 0))[1] == "paused"
        assert await board.take(0, 1, 0) == WAIT
        assert (await board.lose(0))["num_advances"] == 0

    run(story())


def test_a_trial_whose_slot_dies_while_pausing_is_paused() -> None:
    async def story() -> None:
        board = Board()
        await board.put("a")
        await board.join(0, "10.0.0.0")
        await board.take(0, 1, 0)
        await board.pause()
        await board.join(0, "10.0.0.0")
        assert (await board.candidates("a", 0, 0))[1] == "paused"
        assert await board.take(0, 2, 0) == WAIT

    run(story())


def test_work_for_later_waits_for_trials() -> None:
    async def story() -> None:
        board = Board()
        await board.put_work(BASE, later=True)
        await board.put("a")
        await board.join(0, "10.0.0.0")
        assert await board.take(0, 1, 0) == trial("a")
        await board.finish(0, 1, "completed", 0.0)
        assert await board.take(0, 1, 0) == BASE
        assert await board.outcome("base", 0) is None
        await board.finish(0, 1, "failed", 0.0, "no such model")
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
