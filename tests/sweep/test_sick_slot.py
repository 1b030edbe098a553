"""A slot whose node can do nothing, on a real local Ray: it is closed and said, and no trial is lost by it."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from rich.console import Console

from prunedlora.config.load import parse_sweep
from prunedlora.fleet import slots
from prunedlora.fleet.answers import answer
from prunedlora.fleet.slots import SlotsLostError
from prunedlora.results.store import Store
from prunedlora.sweep.run import run_sweep
from prunedlora.trial.outside_error import OutsideError
from tests import tiny
from tests.inventions import pretend


def sick_in_slot_1(work: Any, bench: Any) -> str:
    """What a slot does on a node that reaches no Hub; the other one leaves it work until it is closed."""
    if bench.settings.slot == 1:
        raise OutsideError("the base model did not load: HfHubHTTPError: 429 Client Error")
    while (slot := answer(bench.settings.board.snapshot.remote())["slots"][1])["state"] != "closed":
        time.sleep(0.1)
    assert slot["num_starts"] == 3
    return pretend(work, bench)


def sick_everywhere(work: Any, bench: Any) -> str:
    raise OutsideError("the base model did not load: OSError: [Errno 28] No space left on device")


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # every failure costs a start of the slot's workers


@pytest.fixture(autouse=True)
def by_value(shared_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers need not find this file on their path."""
    import tests.sweep.test_sick_slot as here

    cloudpickle.register_pickle_by_value(here)
    monkeypatch.setattr(slots, "BACK_OFF_SECONDS", 0.1)


def test_a_sick_slot_is_closed_and_its_trials_are_done_by_the_other(tmp_path: Path) -> None:
    tree = tiny.sweep_tree(tmp_path / "tiny", tmp_path / "store") | {"num_trials": 3, "resources": {"num_slots": 2}}
    config = parse_sweep(tree, "test")
    text = io.StringIO()
    console = Console(file=text, width=400)
    result = run_sweep(config, config.storage, console=console, execute=sick_in_slot_1)
    reason = "after 3 failures before the first step: OutsideError: the base model did not load: HfHubHTTPError: 429"
    [problem] = result.problems
    assert problem.startswith("slot 1 on node ")
    assert reason in problem
    assert (result.ending, result.num_new, result.num_failed) == ("all trials are done", 3, 0)
    assert {record.status for record in Store(config.storage).records()} == {"completed"}
    lines = text.getvalue().splitlines()
    said = lines.index(problem)
    assert any("3/3 done" in line for line in lines[said:]), "it is said while the sweep runs"
    assert f"Problem: {problem}" in lines
    assert result.summary.base is not None


def test_a_sweep_without_a_slot_left_records_nothing_and_goes_on_later(tmp_path: Path) -> None:
    tree = tiny.sweep_tree(tmp_path / "tiny", tmp_path / "store") | {"num_trials": 2, "resources": {"num_slots": 1}}
    config = parse_sweep(tree, "test")
    with pytest.raises(SlotsLostError, match=r"3 failures .* No space left on device\. No trial has failed by this"):
        run_sweep(config, config.storage, console=Console(file=io.StringIO()), execute=sick_everywhere)
    assert Store(config.storage).records() == []
    result = run_sweep(config, config.storage, console=Console(file=io.StringIO()), execute=pretend)
    assert (result.num_resumed, result.num_failed, result.problems) == (2, 0, ())
