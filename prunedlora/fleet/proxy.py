"""Proxy: what Tune runs for a trial. It trains nothing; it puts the trial on the board and forwards what comes back.

It imports no torch and asks for a little memory only, so that it starts at once and fits in beside the slots. It never
raises for a failed trial: what became of it is in the store, and Tune reuses the proxy's process for the next one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from prunedlora.fleet.answers import answer

MEMORY_BYTES = 2**20  # a request of nothing at all is refused by Tune, and CPUs all belong to the slots
POLL_SECONDS = 30.0


def make_proxy(board: Any) -> Callable[[dict[str, Any]], None]:
    """The trainable for `tune.Tuner`; `board` is the board's actor handle."""

    def trial(config: dict[str, Any]) -> None:
        forward(board, config["key"], tune.report, config.get("about"))

    return tune.with_resources(trial, {"cpu": 0, "memory": MEMORY_BYTES})


def forward(
    board: Any, key: str, report: Callable[[dict[str, Any]], None], about: Mapping[str, Any] | None = None
) -> str:
    """Puts a trial on the board and reports every candidate until it ends; returns how it ended. `about`: for the
    board's judge."""
    answer(board.put.remote(key, about))
    num_seen = 0
    while True:
        candidates, status = answer(board.candidates.remote(key, num_seen, POLL_SECONDS))
        for candidate in candidates:
            report(flat_figures(candidate))
        num_seen += len(candidates)
        if status is not None:
            return str(status)


def flat_figures(candidate: dict[str, Any]) -> dict[str, Any]:
    """What Tune's loggers can show of a candidate: its figures and sizes by name."""
    figures = {name: figure["value"] for name, figure in candidate["figures"].items()}
    sizes = ("step", "progress", "adapter_params", "adapter_bytes", "max_rank", "served_slot", "train_seconds")
    return figures | {name: candidate[name] for name in sizes}
