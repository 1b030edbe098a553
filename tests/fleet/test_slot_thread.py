"""A slot that hangs at the end: Ray is not shut down under its thread."""

import threading
from collections.abc import Iterator

import pytest
import ray

from prunedlora.fleet import cluster
from prunedlora.fleet.slot_thread import SlotThread, slots_are_left


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """A slot that ends when the event is set."""
    end = threading.Event()
    thread = SlotThread(target=end.wait, args=(30,), daemon=True)
    thread.start()
    yield end
    end.set()
    thread.join()


@pytest.mark.parametrize("fails", [False, True])
def test_ray_stays_while_a_slot_has_still_to_end(
    fails: bool, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, does in {
        "is_initialized": lambda: False,
        "init": lambda **_: None,
        "shutdown": lambda: ends.append(1),
    }.items():
        monkeypatch.setattr(ray, name, does)

    def sweep() -> None:
        with cluster.connected():
            if fails:
                raise KeyError("a sweep's error")

    for num_ends in (0, 1):
        assert slots_are_left() == (num_ends == 0)
        if fails:
            with pytest.raises(KeyError, match="a sweep's error"):
                sweep()
        else:
            sweep()
        assert len(ends) == num_ends
        hanging.set()
        for thread in threading.enumerate():
            if isinstance(thread, SlotThread):
                thread.join()
