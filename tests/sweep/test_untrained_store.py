"""Stores whose candidates stand at step 0: looked at before anything starts, and told by every command afterwards."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.results.store import Store
from prunedlora.sweep.plan import print_plan
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import sweep_tree

ALONE = Workers(0, 1, torch.device("cpu"))
ASSETS = AssetCache(ALONE.device)
LADDER = {"basis": "svd", "schedule": {"name": "ladder", "rungs": {"mean_rank": [3, 1]}, "trunk": 0.0}}
WAYS: dict[str, dict[str, Any]] = {
    "cut": {"cuts": {"sizes": {"mean_rank": [2, 0.5]}}, "training": {"num_steps": 0, "batch_size": 8}},
    "laddered": {"pruning": LADDER, "training": {"num_steps": 4, "batch_size": 8}},
}


def tree_of(home: Path, way: str, adapter: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A sweep of one baseline alone, which is the base as it is."""
    tree = sweep_tree(home, home / way) | {"num_trials": 0, "space": {}, "baselines": [{"label": "shrink"}]}
    heads = {"head_modules": ["pooler", "classifier"]}
    tree["trial"] |= {"adapter": adapter | heads, "pruning": None, "evaluation": {"metric": "accuracy"}} | sections
    return tree


def run(tree: dict[str, Any]) -> tuple[Store, str]:
    sweep = parse_sweep(tree, "test")
    store, key = Store(str(sweep.storage)), trial_key(sweep.trial)
    store.create_or_open(sweep.model_dump(mode="json"))
    status = execute_trial(
        sweep.trial, key, store=store, assets=ASSETS, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    assert status == "completed"
    return store, key


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("home")
    fresh = {"method": "lora", "initial_rank": 4, "alpha": 8}
    store, key = run(tree_of(home, "first", fresh, training={"num_steps": 4, "batch_size": 8}))
    return home, f"store:{store.uri}/{key}@4"


@pytest.mark.parametrize("way", WAYS)
def test_every_command_takes_them(way: str, existing: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    home, name = existing
    method = "lora" if way == "cut" else "prunedlora"
    tree, text = tree_of(home, way, {"method": method, "start_from": name}, **WAYS[way]), io.StringIO()
    print_plan(parse_sweep(tree, "test"), tree["storage"], Console(file=text, width=300))
    cost = {
        "cut": "1 candidate and 2 cuts a training: 1 × 20 + 2 × 20 examples for loss, beside 0 examples trained",
        "laddered": "3 rungs a training: 3 × 20 examples for loss, beside 32 examples trained",
    }[way]
    assert f"Evaluation of shrink: {cost}" in text.getvalue()
    store, key = run(tree)
    (record,) = store.records()
    original, *others = record.candidates
    assert (record.key, original.is_original, any(one.is_original for one in others)) == (key, True, False)
    for command in (
        ["report", store.uri],
        ["recommend", store.uri],
        ["serving", store.uri],
        ["compare", store.uri, f"{home}/first", "--names", "small,first"],
        ["export", store.uri, f"{key}@0", "--to", str(home / f"{way}-exported"), "--no-check"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    told = json.loads(CliRunner().invoke(app, ["report", store.uri, "--json"]).stdout)
    assert f"{key}@0" in json.dumps(told) or '"step": 0' in json.dumps(told)
