"""What an equal key leaves open is said before a store is gone on with."""

from prunedlora.config.sweep import ResourcesConfig
from prunedlora.results.record import Environment, Failure, TrialRecord
from prunedlora.sweep.plan import other_workers


def record(num_workers: int, num_threads: int | None, device: str = "cpu") -> TrialRecord:
    return TrialRecord(
        key="0" * 16,
        config={},
        status="failed",
        failure=Failure(type="A", message="b", traceback=""),
        attempts=1,
        environment=Environment(
            packages={}, device=device, num_workers=num_workers, num_threads=num_threads, model={}, data={}
        ),
        train_seconds=1.0,
    )


def test_trials_with_other_workers_or_threads_are_counted() -> None:
    records = [record(1, 1), record(2, 1), record(2, 1), record(1, 4), record(1, None), record(1, 8, "NVIDIA H200")]
    lines = other_workers(records, ResourcesConfig(num_workers=1, cpus_per_worker=1))
    assert [line.partition(":")[2].partition(":")[0] for line in lines] == [
        " 1 trial on record ran as 1 worker of 4 threads, new ones would as 1 worker of 1 thread",
        " 2 trials on record ran as 2 workers of 1 thread, new ones would as 1 worker of 1 thread",
    ]
    assert all(line.endswith("another sample of the same training, without the same up to rounding") for line in lines)


def test_trials_with_the_same_say_nothing() -> None:
    assert other_workers([record(2, 3)], ResourcesConfig(num_workers=2, cpus_per_worker=3)) == []
    assert other_workers([], ResourcesConfig()) == []
