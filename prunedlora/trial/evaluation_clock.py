"""How long the parts of an evaluation take."""

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Literal

Part = Literal["loss", "answers", "export", "cuts", "harness", "looks"]
"""Without answers; with them (the loss beside); writing and verifying the adapter; making cuts and looking at them on a
few examples; lm-evaluation-harness; looks on the way, which make no candidate."""


class EvaluationClock:
    """Adds to a trial's seconds by part, and counts those of one candidate."""

    def __init__(self, of_trial: MutableMapping[str, float]) -> None:
        self._of_trial = of_trial
        self.seconds = 0.0
        """Of this candidate so far, all parts."""

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """What is done inside counts, unless it raises. Evaluations end in numbers on the CPU: nothing is in flight."""
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.seconds += took
        self._of_trial[name] = self._of_trial.get(name, 0.0) + took
