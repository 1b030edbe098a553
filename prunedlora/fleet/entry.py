"""Where Ray Train enters a slot. Its controller imports this module too, so what is heavy waits for the workers."""

from typing import Any


def train_loop(config: dict[str, Any]) -> None:
    """The `train_loop_per_worker` of a slot, `config["settings"]` its SlotSettings."""
    from prunedlora.fleet.worker import serve

    serve(config["settings"])


def speed_loop(config: dict[str, Any]) -> None:
    """The `train_loop_per_worker` of a slot that only measures, `config["asked"]` its speed_worker.Asked."""
    from prunedlora.fleet.speed_worker import measure

    measure(config["asked"])
