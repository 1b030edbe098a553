"""Adapters really loaded and run: what is measured, where it lands, what is refused before the base model is loaded."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.export import CONFIG_NAME, WEIGHTS_NAME, export
from prunedlora.cli import app
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_latency import LatencyError, Shape, measure_latencies, measure_latency
from prunedlora.delivery.stored_adapter import StoredAdapterError
from prunedlora.results.analysis.latency_document import read_latencies
from prunedlora.results.record import Candidate, Environment, Figure, Json, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.model import BaseModel
from prunedlora.trial.assets import load_assets
from tests.tiny import sweep_tree

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
CPU = torch.device("cpu")
SHAPE = Shape(batch_size=2, num_tokens=6, repeat=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, BaseModel]:
    """A store whose trial "a1" has an adapter (drawn, not trained) at step 10, and the base model."""
    folder = tmp_path_factory.mktemp("latency")
    tree = sweep_tree(folder, folder / "store")
    store = Store(str(folder / "store"))
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    base = load_assets(trial, CPU).base
    settings = AdapterSettings(4, 4.0, False, 0.0, "all-linear", ["pooler", "classifier"])
    model = attach(base.model, settings, "default", 0)
    export(model, "default", folder / "adapter", "tiny")
    detach(model)
    store.upload_folder(folder / "adapter", "trials/a1/adapters/10")
    figure = Figure(value=0.5, stderr=0.1, num_examples=20)
    candidate = Candidate(
        step=10, progress=1.0, figures={"accuracy": figure, "loss": figure}, ranks={"layer": 4}, adapter_params=100,
        adapter_bytes=400, head_params=7, file_bytes=600, max_rank=4, served_slot=8, adapter_path="adapters/10",
        train_seconds=1.0, tokens_seen=1, examples_seen=1,
    )  # fmt: skip
    gone = candidate.model_copy(update={"step": 11, "adapter_path": None})
    facts: dict[str, Json] = {"labels": ["back", "front"], "pad_token_id": 0}  # what the base is loaded with
    record = TrialRecord(
        key="a1", config=trial.model_dump(mode="json"), status="completed", attempts=1, candidates=(candidate, gone),
        environment=Environment(packages={}, device="cpu", num_workers=1, model=facts, data={}), train_seconds=1.0,
    )  # fmt: skip
    store.write_record(record, driver_epoch=1)
    return store, base


def checksum(base: BaseModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in base.model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_loads_and_passes_are_timed_and_the_base_is_left_as_it_was(made: tuple[Store, BaseModel]) -> None:
    store, base = made
    before = checksum(base), set(base.model.state_dict())
    folder = Path(store.uri) / "trials" / "a1" / "adapters" / "10"
    start = time.perf_counter()
    found = measure_latency(base, folder, SHAPE, CPU, merged=True)
    elapsed = time.perf_counter() - start
    each = [found.load_seconds, found.base_seconds, found.adapter_seconds, found.merged_seconds]
    assert [len(seconds) for seconds in each] == [3, 3, 3, 3]
    assert elapsed / 100 < sum(map(sum, each)) < elapsed  # nothing is counted twice, little is left out
    assert (found.conditions.device, found.conditions.dtype) == ("cpu", "float32")
    assert (found.conditions.batch_size, found.conditions.num_tokens) == (2, 6)
    assert found.conditions.num_threads == torch.get_num_threads()
    assert found.conditions.packages["torch"] == torch.__version__
    assert (checksum(base), set(base.model.state_dict())) == before
    assert measure_latency(base, folder, SHAPE, CPU, merged=False).merged is None


def test_the_command_measures_and_leaves_the_figures_beside_the_candidate(made: tuple[Store, BaseModel]) -> None:
    store, _ = made
    shape = ["--batch-size", "2", "--num-tokens", "6", "--repeat", "2"]
    done = CliRunner().invoke(app, ["latency", store.uri, "a1@10", *shape])
    assert done.exit_code == 0, done.output
    assert "Median of 2: 2 × 6 tokens, float32" in done.stdout
    assert "a1@10" in done.stdout
    [one] = read_latencies(store, "a1", "10")
    assert len(one.base_seconds) == 2


def test_the_command_takes_the_recommended_one_or_all_on_the_front(made: tuple[Store, BaseModel]) -> None:
    store, _ = made
    shape = ["--batch-size", "1", "--num-tokens", "2", "--repeat", "1", "--json"]
    for named in ([], ["recommended"], ["--front"]):
        done = CliRunner().invoke(app, ["latency", store.uri, *named, *shape])
        assert done.exit_code == 0, done.output
        assert [row["candidate"] for row in json.loads(done.stdout)] == ["a1@10"]
    both = CliRunner().invoke(app, ["latency", store.uri, "a1@10", "--front"])
    assert both.exit_code == 2
    assert "--front is all candidates on the front: name none beside it" in " ".join(
        both.stderr.replace("│", "").split()
    )


def test_a_store_that_is_read_only_is_measured_and_says_once_that_nothing_is_kept(
    made: tuple[Store, BaseModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = made
    kept = read_latencies(store, "a1", "10")

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    shape = ["--batch-size", "1", "--num-tokens", "3", "--repeat", "1", "--json"]
    done = CliRunner().invoke(app, ["latency", store.uri, "a1@10", "a1@10", *shape])
    assert done.exit_code == 0, done.output
    assert [row["candidate"] for row in json.loads(done.stdout)] == ["a1@10", "a1@10"]
    assert done.stderr.count(f"{store.uri} is read-only, the figures are not kept (") == 1
    assert read_latencies(store, "a1", "10") == kept


def test_what_cannot_be_measured_is_refused_before_anything_is(made: tuple[Store, BaseModel]) -> None:
    store, _ = made
    started: list[str] = []

    def measured(*names: str, shape: Shape = SHAPE) -> None:
        measure_latencies(store, names, shape, started.append, pytest.fail)

    with pytest.raises(LatencyError, match="nothing to measure: no candidate on the front has an adapter file"):
        measured()
    with pytest.raises(LatencyError, match=r"65 tokens are more than .*model takes: at most 64"):
        measured("a1@10", shape=Shape(1, 65, 1))
    with pytest.raises(StoredAdapterError, match=r"a1@11: there is no adapter: it was deleted \(retention"):
        measured("a1@10", "a1@11")
    folder = Path(store.uri) / "trials" / "a1" / "adapters" / "10"
    content = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(content[:-4])
    with pytest.raises(StoredAdapterError, match=r"adapter_model\.safetensors is damaged: "):
        measured("a1@10")
    (folder / WEIGHTS_NAME).write_bytes(content)
    config = (folder / CONFIG_NAME).read_text()
    (folder / CONFIG_NAME).write_text(config[:50])
    with pytest.raises(ValueError, match=r"adapters/10/adapter_config\.json: not JSON"):
        measured("a1@10")
    (folder / CONFIG_NAME).write_text(config)
    assert started == []
