"""A sweep on a real local Ray, most of whose trials are stopped on the way."""

import gc
import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray import cloudpickle
from ray.util.placement_group import placement_group_table
from rich.console import Console

from prunedlora.config.load import parse_sweep
from prunedlora.fleet.worker import execute_work
from prunedlora.results.store import Store
from prunedlora.sweep.run import run_sweep
from tests import tiny

GOOD = {"optimizer.learning_rate": 1e-5, "optimizer.head_learning_rate": 1e-5}
DIES_AFTER = 9


STAY = Counter(
    f"{kind}{name}" for kind in ("", "ray::") for name in ("Board", "_AutoscalingCoordinatorActor")
) + Counter(["ray::DashboardAgent", "ray::RuntimeEnvAgent"])
"""One each, whatever became of the trials: the board ends with the driver's process, which this one is; the others are
Ray's own, and end with it."""


@pytest.fixture(autouse=True)
def by_value(shared_ray: None) -> Iterator[None]:
    """Workers need not find this file on their path."""
    import tests.sweep.test_stopped_trials as here

    cloudpickle.register_pickle_by_value(here)
    yield
    cloudpickle.unregister_pickle_by_value(here)


def left_in_ray() -> Counter[str]:
    """Placement groups and actors that live, and processes that are more than a worker that Ray keeps idle."""
    groups = [name for name, group in placement_group_table().items() if group["state"] != "REMOVED"]
    actors = [each["ActorClassName"] for each in ray._private.state.actors().values() if each["State"] != "DEAD"]
    children = psutil.Process().children(recursive=True)
    names = [each.name() for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return Counter([*groups, *actors, *(name for name in names if name.startswith("ray::") and name != "ray::IDLE")])


def dies_once(work: Any, bench: Any) -> str:
    """What a slot does with a trial that goes on: with one of them its process is gone after some steps."""
    died = Path(bench.store.uri).parent / "died"

    def progress(step: int, num_steps: int, tokens_per_second: float) -> Any:
        if step == DIES_AFTER and not died.exists():
            with suppress(FileExistsError), died.open("x") as file:
                file.write(work["key"])
                file.flush()
                os._exit(1)
        return bench.progress(step, num_steps, tokens_per_second)

    goes_on = work["kind"] == "trial" and bench.store.read_goes_on(work["key"]) is not None
    return execute_work(work, replace(bench, progress=progress) if goes_on else bench)


@pytest.mark.slow
def test_paused_trials_leave_nothing_behind_are_stopped_again_and_go_on_where_they_were(
    tmp_path: Path, shared_ray: None
) -> None:
    before = left_in_ray()
    tree: dict[str, Any] = tiny.sweep_tree(tmp_path, tmp_path / "store")
    tree["trial"]["optimizer"] = {"learning_rate": 0.4, "head_learning_rate": 0.4}
    stopping: dict[str, Any] = {"looks": [0.2], "examples": 20, "then": "pause"}
    tree |= {
        "num_trials": 8,
        "sampler": "random",
        "resources": {"num_slots": 2},
        "retention": {"checkpoints": "always"},  # also of those that stay stopped
        "space": {"optimizer.learning_rate": {"log_uniform": [0.4, 0.8]}},
        "baselines": [GOOD, GOOD | {"seed": 1}],
        "stopping": stopping,
    }
    config, text = parse_sweep(tree, "test"), io.StringIO()
    result = run_sweep(config, config.storage, console=Console(file=text, width=200))
    assert (result.num_new, result.num_failed, result.problems) == (10, 0, ())

    store = Store(config.storage)
    asks = store.asks()
    records = {record.key: record for record in store.records()}
    searched = [records[ask.key] for ask in asks if ask.kind == "search"]
    baselines = {ask.key for ask in asks if ask.kind == "baseline"}
    assert all(records[key].status == "completed" for key in baselines)
    assert all(records[key].looks and records[key].looks[0].decision is None for key in baselines)
    stopped = [record for record in searched if record.status == "stopped"]
    assert len(stopped) >= 6, [record.looks for record in searched]
    for record in stopped:
        look = record.stopped_at
        assert look is not None
        assert look.decision is not None
        assert {each.by for each in look.decision.beaten_by} <= baselines
        assert set(look.decision.peers) >= baselines
        assert f"trial {record.key} stopped at {look.share:.0%} of its steps, beaten by " in text.getvalue()
        assert store.read_goes_on(record.key) is None
        assert [int(name.partition("-")[0]) for name in store.checkpoints(record.key)] == [look.step]
    assert f"{len(stopped)} stopped early, which saved" in (tmp_path / "store/report/report.html").read_text()

    deadline = time.monotonic() + 30
    while (left := [*(left_in_ray() - before - STAY).elements()]) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.5)
    assert left == []

    # The driver and a slot died: what was decided is in the store, and a trial that begins anew repeats it. Then those
    # that were stopped by less than counts by now go on from their checkpoints, one of them twice.
    victim = stopped[-1]
    (tmp_path / "store/trials" / victim.key / "record.json").unlink()
    decided = store.looks(victim.key)
    later = parse_sweep(tree | {"stopping": stopping | {"margin": 10.0}}, "test")
    again = run_sweep(later, later.storage, console=Console(file=io.StringIO()), execute=dies_once)
    assert (again.num_kept, again.num_resumed, again.num_failed, again.problems) == (9, 1, 0, ())
    assert store.looks(victim.key)[: len(decided)] == decided
    died = (tmp_path / "died").read_text()
    assert died in {record.key for record in stopped}
    for record in stopped:
        ended, goes_on, look = store.read_record(record.key), store.read_goes_on(record.key), record.stopped_at
        assert ended is not None
        assert goes_on is not None
        assert look is not None
        assert not goes_on.decision.stops
        assert ended.status == "completed"
        assert ended.looks[: len(record.looks)] == record.looks
        log = store.read_log(record.key)
        assert [line["step"] for line in log if "loss" in line] == [*range(1, 13)]
        assert len([line for line in log if line.get("look", {}).get("stops")]) == 1, "it is not decided again"
        begun_at = [line["resumed_at_step"] for line in log if "resumed_at_step" in line]
        stays = record.key == victim.key  # the first time, by what was decided
        assert begun_at[: 1 + stays] == [look.step] * (1 + stays)
        assert len(begun_at) == 1 + stays + (record.key == died)
