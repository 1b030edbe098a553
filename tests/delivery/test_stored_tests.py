"""Named candidates on the test split: by the command, once each, both splits side by side."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.identity import contents, trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.driver_lock import DriverLock
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests import tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Of one trial with a milestone, nothing of it tested."""
    folder = tmp_path_factory.mktemp("tiny")
    config = parse_sweep(tiny.sweep_tree(folder, folder / "store"), "test")
    store, key = Store(config.storage), trial_key(config.trial)
    store.create_or_open(config.model_dump(mode="json"))
    store.binding.write_contents(contents([config.trial]))
    store.write_config(key, config.trial.model_dump(mode="json"))
    execute_trial(
        config.trial, key, store=store, assets=AssetCache(torch.device("cpu")),
        workers=Workers(0, 1, torch.device("cpu")), epoch=1, max_attempts=1, report=lambda _: Verdict.CONTINUE,
        progress=lambda *_: Verdict.CONTINUE, keep_checkpoints=False, checkpoint_every_steps=None,
        checkpoint_every_seconds=None,
    )  # fmt: skip
    return store


def invoke(store: Store, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["test", store.uri, *words])
    return done.exit_code, " ".join(done.output.split())


def test_each_is_measured_once_and_kept(store: Store) -> None:
    [record] = store.records()
    status, output = invoke(store, f"{record.key}@6", "recommended", "best", "--device", "cpu")
    assert status == 0, output
    measured = summarize(store).tested
    assert f"{record.key}@6" in measured
    assert f"measuring {record.key}@6" in output
    assert "accuracy on validation on test" in output
    assert f"{len(measured)} candidates of this store were looked at on the test split" in output
    status, output = invoke(store, record.key[:6] + "@6", "--json")
    assert status == 0
    found = json.loads(output)
    assert [(each["candidate"], each["measured_now"]) for each in found["candidates"]] == [(f"{record.key}@6", False)]
    assert found["candidates"][0]["test"]["accuracy"]["num_examples"] == 20
    assert found["num_tested"] == len(measured)
    assert invoke(store, "front")[0] == 0


def test_what_cannot_be_measured_is_refused(store: Store) -> None:
    [record] = store.records()
    assert "has no candidate '7'" in invoke(store, f"{record.key}@7")[1]
    assert "has no trial 'zzz'" in invoke(store, "zzz")[1]
    with DriverLock(store.storage):
        assert "a second driver is refused" in invoke(store, record.key)[1]
    status, output = invoke(store, record.key, "--device", "tpu")
    assert (status, "device 'tpu' is none of cpu" in output) == (2, True)
    data = Path(record.config["data"]["train"]["name"])  # type: ignore[index, call-overload, arg-type]
    path = store.trial_path(record.key, str(record.candidates[-1].adapter_path), "test.json")
    Path(store.uri, path).unlink(missing_ok=True)
    kept = data.read_text()
    data.write_text(kept + "alpha,front\n")
    try:
        assert "changed since this sweep began" in invoke(store, record.key)[1]
    finally:
        data.write_text(kept)
