"""A sweep on a real local Ray, most of whose trials are stopped on the way."""

import gc
import io
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util.placement_group import placement_group_table
from rich.console import Console

from prunedlora.config.load import parse_sweep
from prunedlora.results.store import Store
from prunedlora.sweep.run import run_sweep
from tests import tiny

GOOD = {"optimizer.learning_rate": 1e-5, "optimizer.head_learning_rate": 1e-5}


STAY = Counter(
    f"{kind}{name}" for kind in ("", "ray::") for name in ("Board", "_AutoscalingCoordinatorActor")
) + Counter(["ray::DashboardAgent", "ray::RuntimeEnvAgent"])
"""One each, whatever became of the trials: the board ends with the driver's process, which this one is; the others are
Ray's own, and end with it."""


def left_in_ray() -> Counter[str]:
    """Placement groups and actors that live, and processes that are more than a worker that Ray keeps idle."""
    groups = [name for name, group in placement_group_table().items() if group["state"] != "REMOVED"]
    actors = [each["ActorClassName"] for each in ray._private.state.actors().values() if each["State"] != "DEAD"]
    children = psutil.Process().children(recursive=True)
    names = [each.name() for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return Counter([*groups, *actors, *(name for name in names if name.startswith("ray::") and name != "ray::IDLE")])


@pytest.mark.slow
def test_many_stopped_trials_leave_nothing_behind_and_are_stopped_again(tmp_path: Path, shared_ray: None) -> None:
    before = left_in_ray()
    tree: dict[str, Any] = tiny.sweep_tree(tmp_path, tmp_path / "store")
    tree["trial"]["optimizer"] = {"learning_rate": 0.4, "head_learning_rate": 0.4}
    tree |= {
        "num_trials": 8,
        "sampler": "random",
        "resources": {"num_slots": 1},
        "space": {"optimizer.learning_rate": {"log_uniform": [0.4, 0.8]}},
        "baselines": [GOOD, GOOD | {"seed": 1}],
        "stopping": {"looks": [0.2], "examples": 20},
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
        assert store.checkpoints(record.key) == []
    assert f"{len(stopped)} stopped early, which saved" in (tmp_path / "store/report/report.html").read_text()

    deadline = time.monotonic() + 30
    while (left := [*(left_in_ray() - before - STAY).elements()]) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.5)
    assert left == []

    # The driver and a slot die: what was decided is in the store, and a trial that begins anew repeats it.
    victim = stopped[-1]
    (tmp_path / "store/trials" / victim.key / "record.json").unlink()
    decided = store.looks(victim.key)
    again = run_sweep(config, config.storage, console=Console(file=io.StringIO()))
    assert (again.num_kept, again.num_resumed, again.num_failed) == (9, 1, 0)
    repeated = store.read_record(victim.key)
    assert repeated is not None
    assert (repeated.status, repeated.looks) == ("stopped", victim.looks)
    assert store.looks(victim.key) == decided
