"""Board: the actor between Tune's proxies and the slots.

Proxies put trials on it, slots take them; candidates flow back, and so does the answer to "shall I go on?". It holds
nothing that cannot be rebuilt from the store: a new driver starts with an empty board. No torch, no Ray in here; it
becomes an actor where it is started (cluster.py). All methods run on one event loop, so none needs a lock.

What a slot's workers say carries the number of their start, which `join` gave them: a late word of workers that others
have replaced must not end what these have in hand. Such workers hear REPLACED.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypedDict

from prunedlora.fleet.package_sources import Sources, own_sources

REPLACED: Final = "replaced"
"""What workers hear whose place others have taken, or whose work others do by now."""
Answer = Literal["continue", "pause", "stop", "replaced"]
"""Verdict on a running trial, as text, or REPLACED."""


class Work(TypedDict):
    """What a slot is to do: train a trial, evaluate the base model, or test an exported adapter."""

    kind: Literal["trial", "base", "test", "wait", "replaced"]
    key: str
    candidate: str
    """Name of the candidate to test; empty for other work."""


def work_name(work: Work) -> str:
    """What tells pieces of work apart that are no trials: "base", "test KEY CANDIDATE"."""
    return " ".join(part for part in (work["kind"], work["key"], work["candidate"]) if part)


class Judge(Protocol):
    """Who says which trials are left behind; the driver brings it (sweep/judge.py)."""

    def begin(self, key: str, about: Mapping[str, Any]) -> None:
        """A trial is to be trained, or goes on; `about`: what must be known of it."""

    def look(self, key: str, look: Mapping[str, Any], is_decided: bool) -> dict[str, Any] | None:
        """Takes a look at a trial; the decision, None where there is none, or it was decided on before."""

    def end(self, key: str, status: str) -> None:
        """A trial has ended: completed, stopped or failed."""


class Looked(TypedDict):
    """The answer to a look."""

    answer: "Answer"
    decision: dict[str, Any] | None


class Standing(TypedDict):
    """How far a slot had come when its workers were lost."""

    node: str
    """Address of the node of its first worker; empty when none ever joined."""
    num_advances: int
    """Pieces of work brought to an end and checkpoints written, since the slot was opened."""
    joined: bool
    """Whether its last workers were ready."""
    stepped: bool
    """Whether they did a first step of anything."""


WAIT: Work = {"kind": "wait", "key": "", "candidate": ""}
GONE: Work = {"kind": "replaced", "key": "", "candidate": ""}
MOST_RETURNS = 2
"""Workers that an evaluation of the base model, or a test, may cost before it is left out."""
MOST_HAND_BACKS = 3
"""So often may workers hand an evaluation of the base model, or a test, back before it is left out."""
MOST_HAND_BACKS_OF_ALL = 2
"""The same where each slot that serves has handed it back, which may be one. Fewer than the failures that close a slot
(failure_count.MOST_EARLY): what cannot be evaluated takes no slot from the trials."""


@dataclass
class _Trial:
    candidates: list[dict[str, Any]] = field(default_factory=list)
    status: str | None = None
    """completed, stopped, failed, paused; None while it is queued or trained."""


@dataclass
class _Slot:
    state: str = "starting"
    """starting, waiting for resources, idle, busy, closed."""
    start: int = 0
    """Start of the workers that are listened to; 0: none are."""
    node: str = ""
    stepped: bool = False
    num_checkpoints: int = 0
    num_waits: int = 0
    work: Work | None = None
    step: int = 0
    num_steps: int = 0
    tokens_per_second: float | None = None
    """Of the trial in hand; None before its first step."""
    busy_seconds: float = 0.0
    num_finished: int = 0
    num_starts: int = 0
    joined_at: float = 0.0
    """When its workers were ready for the first time, in seconds since 1970."""

    @property
    def serves(self) -> bool:
        """Whether it takes work, or will again when its workers have been started anew."""
        return self.num_starts > 0 and self.state in ("starting", "idle", "busy")


class Board:
    def __init__(self, judge: Judge | None = None) -> None:
        """`judge`: None where no trial is judged."""
        self._judge = judge
        self._queue: deque[Work] = deque()
        self._later: deque[Work] = deque()
        self._trials: dict[str, _Trial] = {}
        self._outcomes: dict[str, str] = {}
        """Name of work that is no trial → how it ended; so with these two."""
        self._returns: dict[str, int] = {}
        self._hand_backs: dict[str, list[int]] = {}
        """The slots that handed it back, in order."""
        self._slots: dict[int, _Slot] = {}
        self._paused = False
        self._closed = False
        self._changed = asyncio.Event()

    # --- proxies

    async def put(self, key: str, about: Mapping[str, Any] | None = None) -> None:
        """Queues a trial; nothing to do while it is queued or trained. `about`: for the judge.

        One that has ended is queued again: it is asked for anew when the driver saw no record of it, or it goes on.
        """
        if key in self._trials and self._trials[key].status is None:
            return
        if self._judge is not None and about is not None:
            self._judge.begin(key, about)
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

    async def join(self, slot: int, node: str) -> int:
        """A slot's workers have (re)started: what their predecessors had in hand goes to the front of the queue.

        `node`: the address of the first worker's. Returns the number of this start, from 1.
        """
        self._return_work(slot, died=True)
        state = self._slots.setdefault(slot, _Slot())
        state.num_starts += 1
        state.state, state.start, state.node, state.stepped = "idle", state.num_starts, node, False
        state.joined_at = state.joined_at or time.time()
        self._wake()
        return state.start

    async def take(self, slot: int, start: int, timeout: float) -> Work | None:
        """The next piece of work; WAIT when there was none for `timeout` seconds, None when the sweep is over.

        A question left over from workers that died gets GONE, or the work would be lost with them.
        """
        state = self._slots[slot]
        await self._wait(lambda: self._closed or state.start != start or self._next(slot) is not None, timeout)
        if self._closed:
            return None
        if state.start != start:
            return GONE
        work = self._next(slot)
        if work is None:
            return WAIT
        (self._queue if work in self._queue else self._later).remove(work)
        state.state, state.work, state.step, state.num_steps, state.tokens_per_second = "busy", work, 0, 0, None
        return work

    async def report(self, slot: int, start: int, key: str, candidate: dict[str, Any]) -> Answer:
        """Takes a candidate of the trial in hand; the answer says whether to go on."""
        if not self._listens(slot, start):
            return REPLACED
        self._slots[slot].stepped = True
        self._trials[key].candidates.append(candidate)
        self._wake()
        return self._answer()

    async def look(self, slot: int, start: int, key: str, look: Mapping[str, Any], is_decided: bool) -> Looked:
        """Takes a look at the trial in hand, which the judge decides on unless that was done before; the trial obeys
        the decision."""
        if not self._listens(slot, start):
            return {"answer": REPLACED, "decision": None}
        self._slots[slot].stepped = True
        decision = None if self._judge is None else self._judge.look(key, look, is_decided)
        return {"answer": self._answer(), "decision": decision}

    async def progress(self, slot: int, start: int, step: int, num_steps: int, tokens_per_second: float) -> Answer:
        """Notes how far the trial in hand is, and how fast; the answer says whether to go on."""
        if not self._listens(slot, start):
            return REPLACED
        state = self._slots[slot]
        state.step, state.num_steps, state.tokens_per_second = step, num_steps, tokens_per_second
        state.stepped = state.stepped or step > 0
        return self._answer()

    async def advance(self, slot: int, start: int) -> Answer:
        """The trial in hand has a new checkpoint: what fails from here on does not lose what came before."""
        if not self._listens(slot, start):
            return REPLACED
        self._slots[slot].num_checkpoints += 1
        return self._answer()

    async def finish(self, slot: int, start: int, status: str, seconds: float, message: str = "") -> Answer:
        """The work in hand is done, after so many seconds; `message` says why it failed."""
        if not self._listens(slot, start):
            return REPLACED
        state = self._slots[slot]
        work = state.work
        assert work is not None
        state.state, state.work = "idle", None
        state.busy_seconds += seconds
        state.num_finished += status != "paused"
        if work["kind"] == "trial":
            self._trials[work["key"]].status = status
            if self._judge is not None and status != "paused":
                self._judge.end(work["key"], status)
        else:
            self._outcomes[work_name(work)] = message or status
        self._wake()
        return self._answer()

    async def hand_back(self, slot: int, start: int, message: str) -> None:
        """Something around the work in hand failed, as `message` says, by no fault of its own: another slot takes it.

        An evaluation of the base model, or a test, that nobody can do is left out at last.
        """
        state = self._slots[slot]
        if state.start == start and state.work is not None:
            name = work_name(state.work)
            if state.work["kind"] != "trial":
                self._hand_backs.setdefault(name, []).append(slot)
            self._return_work(slot, died=False)
            state.state = "idle"
            self._leave_out(name, message)
            self._wake()

    # --- the driver

    async def put_work(self, work: Work, *, later: bool) -> None:
        """Queues the evaluation of the base model or a test; `later`: only when no trial waits."""
        (self._later if later else self._queue).append(work)
        self._wake()

    async def outcome(self, name: str, timeout: float) -> str | None:
        """How the base evaluation, or a test, of this `work_name` ended ("completed" or what went wrong); None while it
        has not."""
        await self._wait(lambda: name in self._outcomes, timeout)
        return self._outcomes.get(name)

    async def sources(self) -> Sources:
        """Which prunedlora it runs."""
        return own_sources()

    async def open(self, slot: int) -> None:
        """The driver starts a slot."""
        self._slots.setdefault(slot, _Slot())

    async def wait_for_place(self, slot: int) -> None:
        """No node has room for a slot now."""
        state = self._slots[slot]
        state.state, state.num_waits = "waiting for resources", state.num_waits + 1
        self._wake()

    async def lose(self, slot: int) -> Standing:
        """A slot's workers are gone: others take what it had in hand, and nothing more is heard of them."""
        state = self._slots[slot]
        standing: Standing = {
            "node": state.node,
            "num_advances": state.num_finished + state.num_checkpoints,
            "joined": state.start > 0,
            "stepped": state.stepped,
        }
        self._return_work(slot, died=True)
        state.state, state.start, state.stepped = "starting", 0, False
        self._wake()
        return standing

    async def shut(self, slot: int) -> None:
        """A slot that was lost will not come back."""
        self._slots[slot].state = "closed"
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
                    "tokens_per_second": slot.tokens_per_second,
                    "last": self._last(slot.work),
                    "busy_seconds": slot.busy_seconds,
                    "num_finished": slot.num_finished,
                    "num_starts": slot.num_starts,
                    "num_waits": slot.num_waits,
                    "joined_at": slot.joined_at,
                    "serves": slot.serves,
                }
                for number, slot in sorted(self._slots.items())
            },
        }

    def _last(self, work: Work | None) -> dict[str, Any] | None:
        """Size and figures of the newest candidate of the trial in hand; None while there is none."""
        if work is None or work["kind"] != "trial" or not self._trials[work["key"]].candidates:
            return None
        newest = self._trials[work["key"]].candidates[-1]
        figures = {name: figure["value"] for name, figure in newest["figures"].items()}
        return {"adapter_params": newest["adapter_params"], "figures": figures}

    def _listens(self, slot: int, start: int) -> bool:
        """Whether these workers are the slot's, and still have its work in hand."""
        state = self._slots[slot]
        return state.start == start and state.work is not None

    def _next(self, slot: int) -> Work | None:
        """What the slot would take now. What it has handed back is for others, as long as one is left."""
        for work in (*self._queue, *self._later):
            if slot not in self._hand_backs.get(work_name(work), []) or not self._others(work_name(work)):
                return work
        return None

    def _others(self, name: str) -> set[int]:
        """The slots that serve, or are about to again, and have not handed this piece of work back."""
        serving = {number for number, slot in self._slots.items() if slot.serves}
        return serving - set(self._hand_backs[name])

    def _leave_out(self, name: str, message: str) -> None:
        """Ends an evaluation that was handed back often enough, with the last reason."""
        number = len(self._hand_backs.get(name, []))
        if number >= (MOST_HAND_BACKS if number and self._others(name) else MOST_HAND_BACKS_OF_ALL):
            self._later = deque(work for work in self._later if work_name(work) != name)
            self._outcomes[name] = f"{number} tries were given up, the last for {message}"

    def _return_work(self, slot: int, *, died: bool) -> None:
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
            name = work_name(work)
            self._returns[name] = self._returns.get(name, 0) + died
            if self._returns[name] < MOST_RETURNS:
                self._later.append(work)
            else:
                self._outcomes[name] = f"its workers died {MOST_RETURNS} times"

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
