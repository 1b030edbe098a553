"""Times by torch's own clock for benchmarks, which waits until the device has done what it was asked."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.benchmark import timer


def seconds_of(run: Callable[[], Any]) -> float:
    began = timer()
    run()
    return timer() - began


def take_turns(runs: Mapping[str, Callable[[], Any]], num_rounds: int) -> dict[str, float]:
    """Median seconds of each, after one run that is not timed: in turns, so that a machine that grows slower does so
    for all."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(num_rounds + 1):
        for name, run in runs.items():
            took = seconds_of(run)
            if number > 0:
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}
