import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.ask import Ask
from prunedlora.results.storage import StoreError
from prunedlora.results.store import AskTakenError, Store
from prunedlora.study import ask_writer
from prunedlora.study.asker import Asker
from tests.inventions import next_ask

Make = Callable[..., SweepConfig]


@pytest.mark.parametrize("method", ["write_ask", "write_config"])
def test_a_moments_trouble_in_writing_ends_nothing(
    method: str, make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    store = Store(str(tmp_path / "store"))
    write, failures = getattr(store, method), iter([True, True])

    def flaky(*given: Any) -> None:
        if next(failures, False):
            raise StoreError("503 slow down")
        write(*given)

    monkeypatch.setattr(store, method, flaky)
    ask = next_ask(Asker(make_sweep(), store))
    assert store.asks()[:1] == [ask]


def test_trouble_that_stays_is_told(make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    store = Store(str(tmp_path / "store"))

    def fails(ask: Ask) -> None:
        raise StoreError("503 slow down")

    monkeypatch.setattr(store, "write_ask", fails)
    with pytest.raises(StoreError, match="503 slow down"):
        next_ask(Asker(make_sweep(), store))


def test_a_number_that_another_driver_took_is_told_at_once(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    stores = [Store(str(tmp_path / "store")) for _ in range(2)]
    one, other = (Asker(make_sweep(seed=seed), store) for seed, store in enumerate(stores))
    tries: list[int] = []
    write = stores[1].write_ask
    monkeypatch.setattr(stores[1], "write_ask", lambda ask: (tries.append(ask.number), write(ask)))
    ask = next_ask(one)
    assert ask is not None
    one.close()
    with pytest.raises(AskTakenError, match="ask 0 is already written"):
        next_ask(other)
    assert tries == [0]


def test_patience_does_not_hang_on_what_a_storage_says(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    store = Store(str(tmp_path / "store"))
    write, says = store.write_ask, iter(["s3: part 1 is already written, try again"])

    def flaky(ask: Ask) -> None:
        if (said := next(says, None)) is not None:
            raise StoreError(said)
        write(ask)

    monkeypatch.setattr(store, "write_ask", flaky)
    ask = next_ask(Asker(make_sweep(), store))
    assert store.asks()[:1] == [ask]


def test_nothing_is_written_once_closed(make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"))
    reached, go_on = threading.Event(), threading.Event()
    write = store.write_config

    def slow(*given: Any) -> None:
        reached.set()
        go_on.wait(10)
        write(*given)

    monkeypatch.setattr(store, "write_config", slow)
    asker = Asker(make_sweep(), store)
    asking = threading.Thread(target=asker.next)
    asking.start()
    assert reached.wait(10)
    assert not asker.close(0.0)  # a driver that is told to leave has no time for it
    closing = threading.Thread(target=asker.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()  # it waits for what is being written
    go_on.set()
    closing.join(10)
    asking.join(10)
    assert store.asks() == []
    assert asker.next() is None
