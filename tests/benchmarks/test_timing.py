"""Variants that take turns, and what is timed of them."""

import pytest

from prunedlora.benchmarks.product import timing


def test_the_first_run_is_not_timed_and_the_median_of_the_others_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(timing, "timer", lambda: clock)
    calls: list[str] = []

    def variant(name: str, *seconds: float) -> None:
        nonlocal clock
        clock += seconds[calls.count(name)]
        calls.append(name)

    runs = {"a": lambda: variant("a", 100, 1, 2, 6), "b": lambda: variant("b", 200, 3, 3, 3)}
    assert timing.take_turns(runs, 3) == {"a": 2, "b": 3}
    assert calls == ["a", "b"] * 4
