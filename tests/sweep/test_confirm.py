"""A confirmation on a real Ray: it leaves what one in this process leaves."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from prunedlora.config.load import parse_sweep
from prunedlora.fleet import cluster
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.store import Store
from prunedlora.sweep.confirm import confirm
from prunedlora.sweep.confirm_here import confirm_here
from prunedlora.sweep.confirm_plan import Request
from prunedlora.sweep.run_here import run_here
from tests import tiny

CPU, REQUEST = torch.device("cpu"), Request(names=("front", "best"), num_seeds=2, within=0.5)
ONE_SLOT = ["resources.num_slots=1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that never ran a study."""
    folder = tmp_path_factory.mktemp("tiny")
    tree = tiny.sweep_tree(folder, folder / "store") | {"num_trials": 0, "space": {}, "baselines": [{}]}
    config = parse_sweep(tree, "test")
    run_here(config, config.storage, console=Console(file=io.StringIO()), device=CPU)
    return folder / "store"


def told(place: Path) -> Any:
    [found] = summary_of(place).confirmations
    results = [(r.name, r.mean, r.stderr, r.test, r.statement and r.statement.verdict) for r in found.results]
    return found.is_over, found.plan.seeds, results


def summary_of(place: Path) -> Summary:
    return summarize(Store(str(place)))


@pytest.mark.slow
def test_it_is_what_one_in_this_process_leaves(
    swept: Path, tmp_path: Path, shared_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tmp_path / "here", tmp_path / "there"
    for place in places:
        shutil.copytree(swept, place)
    text = io.StringIO()
    assert confirm_here(str(places[0]), REQUEST, console=Console(file=io.StringIO()), device=CPU) == 0
    console = Console(file=text, width=200)
    assert confirm(str(places[1]), REQUEST, console=console, overrides=ONE_SLOT) == 0, text.getvalue()
    assert told(places[0]) == told(places[1])
    assert told(places[1])[0]
    asks = summary_of(places[1]).asks
    assert [ask.kind for ask in asks] == ["baseline", "confirm", "confirm"]
    # The study is neither told nor counts them; nothing is left to start a cluster for.
    monkeypatch.setattr(cluster, "connected", lambda: pytest.fail("nothing is left to train"))
    again = io.StringIO()
    assert confirm(str(places[1]), REQUEST, console=Console(file=again, width=200), overrides=ONE_SLOT) == 0
    assert "Trainings: 0 new; all planned trainings are done." in again.getvalue()
