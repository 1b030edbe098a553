"""Board: the actor between Tune's proxies and the slots.

Proxies put trials on it, slots take them; candidates flow back, and so does the answer to "shall I go on?". It holds
nothing that cannot be rebuilt from the store: a new driver starts with an empty board. No torch, no Ray in here; it
becomes an actor where it is started (cluster.py). All methods run on one event loop, so none needs a lock.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Answer = Literal["continue", "pause", "stop"]
"""Verdict on a running trial, as text."""


class Work(TypedDict):
    """What a slot is to do: train a trial, evaluate the base model, or test an exported adapter."""

    kind: Literal["trial", "base", "test", "wait"]
    key: str
    candidate: str
    """Name of the candidate to test; empty for other work."""


WAIT: Work = {"kind": "wait", "key": "", "candidate": ""}
MOST_RETURNS = 2
"""Workers that an evaluation of the base model, or a test, may cost before it is left out."""


@dataclass
class _Trial:
    candidates: list[dict[str, Any]] = field(default_factory=list)
    status: str | None = None
    """completed, stopped, failed, paused; None while it is queued or trained."""


@dataclass
class _Slot:
    state: str = "starting"
    work: Work | None = None
    step: int = 0
    num_steps: int = 0
    busy_seconds: float = 0.0
    num_finished: int = 0
    num_starts: int = 0
    joined_at: float = 0.0
    """When its workers were ready for the first time, in seconds since 1970."""


class Board:
    def __init__(self) -> None:
        self._queue: deque[Work] = deque()
        self._later: deque[Work] = deque()
        self._trials: dict[str, _Trial] = {}
        self._outcomes: dict[str, str] = {}
        self._returns: dict[str, int] = {}
        self._slots: dict[int, _Slot] = {}
        self._paused = False
        self._closed = False
        self._changed = asyncio.Event()

    # --- proxies

    async def put(self, key: str) -> None:
        """Queues a trial; nothing to do when it is known already."""
        if key in self._trials:
            return
        self._trials[key] = _Trial(status="paused" if self._paused else None)
        if not self._paused:
            self._queue.append({"kind": "trial", "key": key, "candidate": ""})
        self._wake()

    async def candidates(self, key: str, after: int, timeout: float) -> tuple[list[dict[str, Any]], str | None]:
        """The trial's candidates from number `after` on, and its status once it has ended.

        Waits up to `timeout` seconds for either.
        """
        trial = self._trials[key]
        await self._wait(lambda: len(trial.candidates) > after or trial.status is not None, timeout)
        return trial.candidates[after:], trial.status

    # --- slots

    async def join(self, slot: int) -> int:
        """A slot's workers have (re)started: what their predecessors had in hand goes to the front of the queue.

        Returns the number of this start, from 1.
        """
        self.return_work(slot)
        state = self._slots.setdefault(slot, _Slot())
        state.state, state.num_starts = "idle", state.num_starts + 1
        state.joined_at = state.joined_at or time.time()
        self._wake()
        return state.num_starts

    async def take(self, slot: int, timeout: float, start: int = 1) -> Work | None:
        """The next piece of work; WAIT when there was none for `timeout` seconds, None when the sweep is over.

        `start` is what `join` returned: a question left over from workers that died gets nothing, or the work would be
        lost with them.
        """
        state = self._slots[slot]
        await self._wait(lambda: bool(self._closed or self._queue or self._later or state.num_starts != start), timeout)
        if self._closed:
            return None
        queue = self._queue or self._later
        if not queue or state.num_starts != start:
            return WAIT
        work = queue.popleft()
        state.state, state.work, state.step, state.num_steps = "busy", work, 0, 0
        return work

    async def report(self, key: str, candidate: dict[str, Any]) -> Answer:
        """Takes a candidate of the trial in hand; the answer says whether to go on."""
        self._trials[key].candidates.append(candidate)
        self._wake()
        return self._answer()

    async def progress(self, slot: int, step: int, num_steps: int) -> Answer:
        """Notes how far the trial in hand is; the answer says whether to go on."""
        state = self._slots[slot]
        state.step, state.num_steps = step, num_steps
        return self._answer()

    async def finish(self, slot: int, status: str, seconds: float, message: str = "") -> None:
        """The work in hand is done, after so many seconds; `message` says why it failed."""
        state = self._slots[slot]
        work = state.work
        if work is None:
            return
        state.state, state.work = "idle", None
        state.busy_seconds += seconds
        state.num_finished += status != "paused"
        if work["kind"] == "trial":
            self._trials[work["key"]].status = status
        else:
            self._outcomes[work["kind"]] = message or status
        self._wake()

    # --- the driver

    async def put_work(self, work: Work, *, later: bool) -> None:
        """Queues the evaluation of the base model or a test; `later`: only when no trial waits."""
        (self._later if later else self._queue).append(work)
        self._wake()

    async def outcome(self, kind: str, timeout: float) -> str | None:
        """How the base evaluation or the test ended ("completed" or what went wrong); None while it has not."""
        await self._wait(lambda: kind in self._outcomes, timeout)
        return self._outcomes.get(kind)

    async def num_finished(self, slot: int) -> int:
        """Pieces of work that the slot has brought to an end."""
        return self._slots[slot].num_finished if slot in self._slots else 0

    async def give_up(self, slot: int) -> None:
        """A slot will not come back: others take what it had in hand."""
        self.return_work(slot)
        self._slots.setdefault(slot, _Slot()).state = "given up"
        self._wake()

    async def pause(self) -> None:
        """Trials in training keep a checkpoint and end, queued ones end at once; all stay in flight in the store."""
        self._paused = True
        for work in self._queue:
            if work["kind"] == "trial":
                self._trials[work["key"]].status = "paused"
        self._queue = deque(work for work in self._queue if work["kind"] != "trial")
        self._wake()

    async def close(self) -> None:
        """Nothing more is handed out: slots end when they ask."""
        self._closed = True
        self._wake()

    async def snapshot(self) -> dict[str, Any]:
        """What the progress view shows; plain data."""
        return {
            "queued": sum(work["kind"] == "trial" for work in self._queue),
            "running": sum(slot.work is not None and slot.work["kind"] == "trial" for slot in self._slots.values()),
            "ended": {key: trial.status for key, trial in self._trials.items() if trial.status is not None},
            "slots": {
                number: {
                    "state": slot.state,
                    "work": slot.work,
                    "step": slot.step,
                    "num_steps": slot.num_steps,
                    "busy_seconds": slot.busy_seconds,
                    "num_finished": slot.num_finished,
                    "num_starts": slot.num_starts,
                    "joined_at": slot.joined_at,
                }
                for number, slot in sorted(self._slots.items())
            },
        }

    def return_work(self, slot: int) -> None:
        """Puts what a slot has in hand back to the front of the queue."""
        state = self._slots.get(slot)
        if state is None or state.work is None:
            return
        work, state.work = state.work, None
        if work["kind"] == "trial" and self._paused:
            self._trials[work["key"]].status = "paused"
        elif work["kind"] == "trial":
            self._queue.appendleft(work)  # its attempts are counted in the store
        else:
            # An evaluation that kills its workers must not take slot after slot with it.
            kind = work["kind"]
            self._returns[kind] = self._returns.get(kind, 0) + 1
            if self._returns[kind] < MOST_RETURNS:
                self._later.append(work)
            else:
                self._outcomes[kind] = f"its workers died {MOST_RETURNS} times"

    def _answer(self) -> Answer:
        return "pause" if self._paused else "continue"

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, done: Any, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not done() and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return
