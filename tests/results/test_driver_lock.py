import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prunedlora.results import driver_lock
from prunedlora.results.driver import claim_path, process_start, read_driver, this_driver
from prunedlora.results.driver_lock import DriverLock, DriverLockedError
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
def elsewhere(storage):
    """Takes the store as a driver of another machine whose clock is `ahead` seconds before ours; returns what it wrote,
    and a function that writes its next heartbeat."""

    def take(ahead=0.0):
        driver = this_driver(1).model_copy(update={"host": "elsewhere", "machine": "m"})

        def beat(**changes):
            now = driver.model_copy(update={"heartbeat": time.time() + ahead, **changes})
            storage.write_text("driver.json", to_json(now))
            return now

        assert storage.create_text(claim_path(1), to_json(driver))
        return beat(), beat

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
            message = rf"process {driver.pid} on {socket.gethostname()} \(epoch 1, .*second driver is refused; end it"
            with pytest.raises(DriverLockedError, match=message):
                DriverLock(storage, expiry_seconds=0.0).acquire()
            driver.send_signal(signal.SIGKILL)
            # Not waited for: the zombie that is left is no living driver.
            deadline = time.monotonic() + 10
            while process_start(driver.pid) is not None:
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


def take_together(storages, **settings):
    """What comes of drivers that start at the same moment: epochs and errors."""
    start, outcomes = threading.Barrier(len(storages)), []

    def take(storage):
        start.wait()
        try:
            outcomes.append(DriverLock(storage, **settings).acquire())
        except DriverLockedError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=take, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_of_many_that_start_at_the_same_moment_one_drives(storage, monkeypatch):
    """Also where reading back at once shows each what it wrote itself."""
    monkeypatch.setattr(driver_lock, "SETTLE_SECONDS", 0.0)
    outcomes = take_together([Storage(storage.uri) for _ in range(8)])
    assert [outcome for outcome in outcomes if not isinstance(outcome, DriverLockedError)] == [1]
    refused = [str(outcome) for outcome in outcomes if isinstance(outcome, DriverLockedError)]
    assert all("is driven by process" in text or "started at the same moment: process" in text for text in refused)


def test_where_the_storage_has_no_condition_reading_back_tells(monkeypatch):
    """The other one wrote between our look and our write: whose text stays drives."""

    def pipe_file(self, path, value):
        real(self, path, value)
        if "drivers/" in path:
            real(self, path, to_json(this_driver(1)).encode())

    real = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    with pytest.raises(DriverLockedError, match=rf"another driver started at the same moment: process {os.getpid()} "):
        DriverLock(Storage("memory://unconditional/sweep")).acquire()


def test_an_epoch_whose_driver_died_before_it_drove_is_passed_over(storage):
    dead = this_driver(1).model_copy(update={"process_start": "1"})
    assert storage.create_text(claim_path(1), to_json(dead))
    with DriverLock(storage) as lock:
        assert lock.epoch == 2


def test_another_that_took_the_store_meanwhile(storage, monkeypatch, elsewhere):
    """Between our look at driver.json and our writing it; and while we slept between claiming and writing."""
    before = DriverLock.refuse_living

    def slowly(self):
        found = before(self)
        elsewhere()
        return found

    monkeypatch.setattr(DriverLock, "_claim", lambda _self, last: this_driver(last + 1))
    with monkeypatch.context() as patch:
        patch.setattr(DriverLock, "refuse_living", slowly)
        with pytest.raises(DriverLockedError, match=r"started at the same moment: process \d+ on elsewhere"):
            DriverLock(storage).acquire()
    monkeypatch.setattr(DriverLock, "refuse_living", lambda self: read_driver(storage))
    assert storage.create_text(claim_path(3), to_json(this_driver(3)))
    with pytest.raises(DriverLockedError, match=r"started at the same moment: process .*epoch 3"):
        DriverLock(storage).acquire()


def test_what_a_sleeper_of_an_earlier_epoch_writes_late_does_not_stay(storage, elsewhere):
    _, beat = elsewhere()
    beat(released=True)
    with DriverLock(storage, expiry_seconds=0.3) as lock:
        beat()
        wait_for(lambda: read_driver(storage).epoch == 2)
        lock.check()


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
        storage.write_text("driver.json", to_json(unknown.model_copy(update={"pid": pid, "epoch": 2})))
        said = []
        with DriverLock(storage, expiry_seconds=0.2, say=said.append) as lock:
            assert lock.epoch == 3
        assert "waiting up to 0 s to see whether it lives" in said[0]
        storage.delete_folder("drivers")


@pytest.mark.parametrize("ahead", [-61.0, 61.0])
def test_another_machine_is_judged_by_a_change_of_its_heartbeat_and_not_by_its_clock(storage, elsewhere, ahead):
    first, beat = elsewhere(ahead)
    said = []
    lock = DriverLock(storage, expiry_seconds=1.0, say=lambda text: (said.append(text), timer.start()))
    timer = threading.Timer(0.3, beat)
    with pytest.raises(DriverLockedError, match=r"is driven by process \d+ on elsewhere .*second driver is refused"):
        lock.acquire()
    assert said == [
        f"The last driver of this store was {first}, and did not say that it ended: waiting up to 1 s to see whether "
        "it lives"
    ]
    start = time.monotonic()
    assert DriverLock(storage, expiry_seconds=0.4).acquire() == 2
    assert time.monotonic() - start >= 0.4


def test_another_machines_driver_that_ends_while_it_is_watched(storage, elsewhere):
    _, beat = elsewhere()
    timer = threading.Timer(0.2, beat, kwargs={"released": True})
    with DriverLock(storage, expiry_seconds=30.0, say=lambda _: timer.start()) as lock:
        assert lock.epoch == 2


def test_of_two_that_wait_for_the_same_dead_one_one_drives(storage, elsewhere):
    """With clocks that differ by two minutes, which say nothing."""
    elsewhere(ahead=-61.0)
    outcomes = take_together([Storage(storage.uri) for _ in range(2)], expiry_seconds=0.4)
    assert sorted(isinstance(outcome, DriverLockedError) for outcome in outcomes) == [False, True]


def test_the_heartbeat_is_refreshed(storage):
    with DriverLock(storage, expiry_seconds=0.3):
        first = read_driver(storage).heartbeat
        wait_for(lambda: read_driver(storage).heartbeat > first)


def test_a_driver_that_was_replaced_notices_and_leaves_the_lock_alone(storage):
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
