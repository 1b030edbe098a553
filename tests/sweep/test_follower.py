"""What follows a sweep in a thread: it delays nothing, its failure is told once, and it sees the end."""

import threading
import time

import pytest

from prunedlora.sweep import follower
from prunedlora.sweep.follower import Follower


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.01)


def _wait(until: "threading.Event") -> None:
    assert until.wait(10)


def test_a_failure_is_told_once_until_it_works_again() -> None:
    said: list[str] = []
    calls, enough = 0, threading.Event()

    def follow() -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            enough.set()
        if calls < 4:
            raise OSError("gone")

    following = Follower("the mirror", follow, said.append)
    _wait(enough)
    following.close()
    assert len(said) == 2
    assert said[0].startswith("Warning: OSError: gone. The sweep goes on without the mirror, which is tried again")
    assert said[1] == "the mirror is up to date again"


def test_it_follows_once_more_at_the_end_and_only_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "EVERY_SECONDS", 60.0)
    state, seen, first = ["begun"], list[str](), threading.Event()

    def follow() -> None:
        seen.append(state[-1])
        first.set()

    following = Follower("x", follow, pytest.fail)
    _wait(first)
    state.append("ended")
    following.close()
    assert seen == ["begun", "ended"]


def test_one_that_hangs_holds_nothing_up() -> None:
    said: list[str] = []
    hangs = threading.Event()
    began = time.monotonic()
    following = Follower("the mirror", lambda: _wait(hangs), said.append)
    following.close(timeout=0.05)
    assert time.monotonic() - began < 5
    assert said == ["Warning: the mirror had not the end of the sweep in 0.05 s: it is left behind"]
    hangs.set()
