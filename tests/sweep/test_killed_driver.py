"""The whole path for real: a sweep that is killed, terminated, and run again until it is through."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from prunedlora.config.load import load_sweep
from prunedlora.results.driver import read_driver
from prunedlora.results.driver_lock import DriverLockedError
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.sweep.run import run_sweep
from tests import tiny
from tests.inventions import next_ask

ROOT = Path(__file__).parents[2]
NUM_TRIALS = 7


def start(sweep_file: Path) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "jobs/search.py", str(sweep_file)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_records(store: Store, count: int, driver: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while len(store.records()) < count:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, "the sweep makes no progress"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was_and_asks_what_it_would_have_asked(tmp_path: Path) -> None:
    tree = tiny.sweep_tree(tmp_path / "tiny", tmp_path / "store")
    tree |= {"num_trials": NUM_TRIALS, "resources": {"num_slots": 1}}
    tree["trial"]["training"]["num_steps"] = 60
    tree["retention"] = {"checkpoint_every_steps": 10}
    sweep_file = tmp_path / "sweep.yaml"
    sweep_file.write_text(yaml.safe_dump(tree))
    store = Store(str(tmp_path / "store"))

    driver = start(sweep_file)
    wait_for_records(store, 2, driver)
    with pytest.raises(DriverLockedError, match=rf"is driven by process {driver.pid} .*end it first"):
        run_sweep(load_sweep(sweep_file), store.uri, console=Console(file=io.StringIO()))
    driver.kill()
    driver.communicate()
    before = {record.key: record for record in store.records()}
    asked = store.asks()
    assert 2 <= len(before) < NUM_TRIALS

    driver = start(sweep_file)
    wait_for_records(store, len(before) + 2, driver)
    driver.terminate()
    terminated = time.monotonic()
    driver.communicate()
    assert time.monotonic() - terminated < 10
    assert driver.returncode == 128 + signal.SIGTERM
    released = read_driver(store.storage)
    assert released is not None
    assert released.released

    driver = start(sweep_file)
    text = driver.communicate()[0]
    assert driver.returncode == 0, text
    records = {record.key: record for record in store.records()}
    asks = store.asks()
    assert asks[: len(asked)] == asked
    assert {key: records[key] for key in before} == before
    assert len(asks) == NUM_TRIALS
    assert set(records) == {ask.key for ask in asks}
    assert {record.status for record in records.values()} == {"completed"}
    assert "0 failed; all trials are done." in text
    assert "Adapter: " in text

    # What an uninterrupted driver would have asked, given the same outcomes.
    config = load_sweep(sweep_file)
    other = Store(str(tmp_path / "uninterrupted"))
    asker = Asker(config, other)
    out = []
    while not asker.finished or out:
        while len(out) < 2 and (ask := next_ask(asker)) is not None:
            out.append(ask)
        other.write_record(records[out[0].key], driver_epoch=0)
        asker.end(out.pop(0).number)
    assert other.asks() == asks
