import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from prunedlora.results import driver_lock
from prunedlora.results.driver_lock import DriverLock, DriverLockedError, read_driver
from prunedlora.results.record import RecordError, to_json
from prunedlora.results.storage import Storage, StoreError

DRIVE = """
import sys, time
from prunedlora.results.driver_lock import DriverLock, DriverLockedError
from prunedlora.results.storage import Storage
lock = DriverLock(Storage(sys.argv[1]))
try:
    print("epoch", lock.acquire(), flush=True)
except DriverLockedError as error:
    print("refused", error, flush=True)
    sys.exit(3)
time.sleep(60)
"""


def drive(path):
    return subprocess.Popen([sys.executable, "-c", DRIVE, str(path)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def storage(uri):
    return Storage(uri)


@pytest.fixture
def other_host(storage):
    """Takes the store as a driver of another machine whose last heartbeat is `age` seconds old."""

    def take(age):
        DriverLock(storage).acquire()
        driver = read_driver(storage)
        foreign = driver.model_copy(update={"host": "elsewhere", "machine": "m", "heartbeat": time.time() - age})
        storage.write_text("driver.json", to_json(foreign))

    return take


def test_acquire_release_acquire(storage):
    lock = DriverLock(storage)
    with pytest.raises(DriverLockedError, match="is not held"):
        _ = lock.epoch
    with pytest.raises(DriverLockedError, match="is not held"):
        lock.check()
    assert lock.acquire() == 1
    lock.check()
    lock.release()
    lock.release()
    with DriverLock(storage) as again:
        assert again.epoch == 2
    assert read_driver(storage).released


def test_a_second_driver_in_this_process_is_refused(storage):
    with DriverLock(storage), pytest.raises(DriverLockedError, match=rf"is driven by process {os.getpid()} on "):
        DriverLock(storage).acquire()


def test_a_living_driver_is_refused_and_a_killed_one_replaced_at_once(tmp_path):
    storage = Storage(str(tmp_path))
    with drive(tmp_path) as driver:
        try:
            assert driver.stdout.readline() == "epoch 1\n"
            message = rf"process {driver.pid} on {socket.gethostname()} \(epoch 1, .*it runs on this machine: end it"
            with pytest.raises(DriverLockedError, match=message):
                DriverLock(storage, expiry_seconds=0.0).acquire()
            driver.send_signal(signal.SIGKILL)
            # Not waited for: the zombie that is left is no living driver.
            deadline = time.monotonic() + 10
            while driver_lock._process_start(driver.pid) is not None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            start = time.monotonic()
            with DriverLock(storage) as lock:
                assert lock.epoch == 2
            assert time.monotonic() - start < 5
        finally:
            driver.kill()


def test_of_two_that_start_together_one_drives(tmp_path):
    drivers = [drive(tmp_path) for _ in range(2)]
    try:
        first_words = sorted(driver.stdout.readline().split()[0] for driver in drivers)
        assert first_words == ["epoch", "refused"]
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()


def test_two_that_write_in_the_same_moment(storage, monkeypatch):
    def another_writes(_):
        driver = read_driver(storage)
        storage.write_text("driver.json", to_json(driver.model_copy(update={"token": "other", "pid": 77})))

    monkeypatch.setattr(time, "sleep", another_writes)
    with pytest.raises(DriverLockedError, match="another driver started at the same moment: process 77 on "):
        DriverLock(storage).acquire()


def test_a_process_number_that_was_given_again_is_no_driver(storage):
    DriverLock(storage).acquire()
    driver = read_driver(storage)
    storage.write_text("driver.json", to_json(driver.model_copy(update={"process_start": "1"})))
    with DriverLock(storage) as lock:
        assert lock.epoch == 2


def test_without_process_start_times_a_missing_process_is_dead_and_a_present_one_expires(storage):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    DriverLock(storage).acquire()
    unknown = read_driver(storage).model_copy(update={"process_start": "", "pid": ended.pid})
    storage.write_text("driver.json", to_json(unknown))
    with DriverLock(storage) as lock:
        assert lock.epoch == 2
    for pid in (os.getpid(), 1):
        storage.write_text("driver.json", to_json(unknown.model_copy(update={"pid": pid})))
        with pytest.raises(DriverLockedError, match="it counts as dead at "):
            DriverLock(storage).acquire()


def test_another_machine_is_judged_by_its_heartbeat(storage, other_host):
    other_host(age=59)
    with pytest.raises(DriverLockedError, match=r"on elsewhere .*it counts as dead at \d{4}-.* UTC, then run"):
        DriverLock(storage).acquire()
    with DriverLock(storage, expiry_seconds=58) as lock:
        assert lock.epoch == 2


def test_the_heartbeat_is_refreshed(storage):
    with DriverLock(storage, expiry_seconds=0.3):
        first = read_driver(storage).heartbeat
        wait_for(lambda: read_driver(storage).heartbeat > first)


def test_a_driver_that_was_replaced_notices_and_leaves_the_lock_alone(storage, other_host):
    lock = DriverLock(storage, expiry_seconds=0.3)
    lock.acquire()
    thread = lock._thread
    taken = read_driver(storage).model_copy(update={"epoch": 2, "token": "other", "host": "elsewhere"})
    wait_for(lambda: (storage.write_text("driver.json", to_json(taken)), not thread.is_alive())[1])
    with pytest.raises(DriverLockedError, match=r"was taken over by process \d+ on elsewhere \(epoch 2"):
        lock.check()
    lock.release()
    assert read_driver(storage) == taken


def test_a_storage_that_is_away_for_a_moment_does_not_end_the_heartbeat(storage, monkeypatch):
    real, failures = driver_lock.read_driver, iter([StoreError("away"), StoreError("away")])

    def sometimes(where):
        for failure in failures:
            raise failure
        return real(where)

    with DriverLock(storage, expiry_seconds=0.3):
        first = real(storage).heartbeat
        monkeypatch.setattr(driver_lock, "read_driver", sometimes)
        wait_for(lambda: real(storage).heartbeat > first)
        assert list(failures) == []


def test_a_broken_driver_file_is_named(storage):
    lock = DriverLock(storage, expiry_seconds=0.3)
    lock.acquire()
    thread = lock._thread
    wait_for(lambda: (storage.write_text("driver.json", json.dumps({"epoch": 0})), not thread.is_alive())[1])
    with pytest.raises(
        DriverLockedError, match=r"was taken over by somebody who broke it: .*driver\.json: not a valid"
    ):
        lock.check()
    with pytest.raises(RecordError, match=r"driver\.json: not a valid Driver: epoch: "):
        DriverLock(storage).acquire()


def test_storage_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/x/driver\.json: NotADirectoryError"):
        DriverLock(Storage(str(tmp_path / "file/x"))).acquire()


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
