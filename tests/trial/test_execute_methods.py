"""Every registered method as a whole trial on the tiny model: record, adapters, size, resume, the base untouched."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import METHOD_SECTIONS, TrialConfig, trial_with
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.stored_adapter import AS_RECORDED, UNCHECKED, StoredAdapterError
from prunedlora.registry import lookup, names
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import sweep_tree

SECTIONS: dict[str, dict[str, Any]] = {
    "pruning": {
        "target_sparsity": 0.5,
        "rate_growth": 0.5,
        "schedule": {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2},
    },
    "droplora": {"probability": 0.5},
    "l1ra": {"gate_learning_rate": 0.05, "gate_penalty": 0.3, "threshold": 0.95, "every": 0.25},
    "adalora": {"target_rank": 3, "begin": 0.2, "end": 0.7},
    "svd": {"ranks": [4, 1]},
    "full": {"head_modules": ["pooler", "classifier"]},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def trial_of(method: str, folder: Path) -> TrialConfig:
    base = parse_sweep(sweep_tree(folder, "unused"), "test").trial
    section = lookup("method", method).section
    values: dict[str, Any] = {name: SECTIONS[name] if name == section else None for name in METHOD_SECTIONS}
    if method == "full":
        values |= {"full": SECTIONS["full"], "adapter": None}
    else:
        values |= {"adapter.method": method, "adapter.use_rslora": method == "rslora"}
    return trial_with(base, values)


def run(trial: TrialConfig, store: Store, assets: AssetCache, pause_at: int | None = None) -> str:
    return execute_trial(
        trial,
        trial_key(trial),
        store=store,
        assets=assets,
        workers=Workers(0, 1, CPU),
        epoch=1,
        max_attempts=2,
        report=lambda _: Verdict.CONTINUE,
        progress=lambda step, *_: Verdict.PAUSE if step == pause_at else Verdict.CONTINUE,
    )


def checksum(model: torch.nn.Module) -> str:
    state = model.state_dict()
    return hashlib.sha256(b"".join(state[name].contiguous().numpy().tobytes() for name in sorted(state))).hexdigest()


@pytest.mark.parametrize("method", names("method"))
def test_a_whole_trial_resumed_equals_uninterrupted_and_leaves_the_base(
    method: str, folder: Path, tmp_path: Path
) -> None:
    trial, assets = trial_of(method, folder), AssetCache(CPU)
    before = checksum(assets.get(trial).base.model)
    stores = [Store(str(tmp_path / name)) for name in ("whole", "resumed")]
    for store in stores:
        store.create_or_open(sweep_tree(folder, store.uri))
    assert run(trial, stores[0], assets) == "completed"
    assert checksum(assets.get(trial).base.model) == before
    assert run(trial, stores[1], assets, pause_at=8) == "paused"
    assert run(trial, stores[1], AssetCache(CPU)) == "completed"

    whole, resumed = (store.read_record(trial_key(trial)) for store in stores)
    assert whole is not None
    assert resumed is not None
    assert [c.figures for c in whole.candidates] == [c.figures for c in resumed.candidates]
    assert [c.ranks for c in whole.candidates] == [c.ranks for c in resumed.candidates]
    truncated = ["12r4", "12r1"] if method == "svd" else []
    assert [candidate.name for candidate in whole.candidates] == ["6", "12", *truncated]
    for candidate in whole.candidates:
        assert (candidate.adapter_path is None) == (method == "full")
        if candidate.adapter_path is None:
            continue
        files = [
            Path(store.uri) / "trials" / whole.key / candidate.adapter_path / "adapter_model.safetensors"
            for store in stores
        ]
        left, right = (load_file(file) for file in files)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
        # Size and certificate are those of what lies there.
        factors = [tensor for name, tensor in left.items() if ".lora_" in name]
        assert candidate.adapter_params == sum(tensor.numel() for tensor in factors)
        assert candidate.max_rank == max(len(tensor) for name, tensor in left.items() if ".lora_A." in name)
        assert candidate.certificate is not None
    assert (whole.layer_widths is None) == (method == "full")
    if method != "full":
        last = whole.candidates[-1].name
        measure_test(trial, whole.key, last, store=stores[0], assets=assets, workers=Workers(0, 1, CPU))
        assert checksum(assets.get(trial).base.model) == before


def test_a_damaged_adapter_is_not_exported(folder: Path, tmp_path: Path) -> None:
    """Whole files of the right size too: the weights' checksum is on record."""
    store = Store(str(tmp_path / "store"))
    store.create_or_open(sweep_tree(folder, store.uri))
    trial = trial_of("lora", folder)
    assert run(trial, store, AssetCache(CPU)) == "completed"
    key = trial_key(trial)
    facts = export_candidate(store, key, tmp_path / "good", check=True)
    assert facts["max_logit_difference_merged"] < 1e-4
    assert facts["weights_file"] == AS_RECORDED
    weights = Path(store.uri) / "trials" / key / "adapters" / "000012" / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-40] + bytes(40))
    with pytest.raises(StoredAdapterError, match=r"adapter_model\.safetensors is damaged: sha256 .* was recorded"):
        export_candidate(store, key, tmp_path / "bad", check=False)
    # A record of before checksums: what can be seen is seen, and that the rest was not checked is said.
    record = store.read_record(key)
    assert record is not None
    old = [candidate.model_copy(update={"file_sha256": None}) for candidate in record.candidates]
    store.write_record(record.model_copy(update={"candidates": tuple(old)}), driver_epoch=1)
    assert export_candidate(store, key, tmp_path / "old", check=False) == {"weights_file": UNCHECKED}
    weights.write_bytes(content[:-40])
    with pytest.raises(StoredAdapterError, match=r"000012/adapter_model\.safetensors is damaged: .*"):
        export_candidate(store, key, tmp_path / "bad", check=False)
    weights.with_name("adapter_config.json").unlink()
    with pytest.raises(StoredAdapterError, match=r"adapters/000012 has no adapter_config\.json: the adapter is gone"):
        export_candidate(store, key, tmp_path / "bad", check=False)
    weights.unlink()
    with pytest.raises(StoredAdapterError, match=r"000012 has no adapter_model\.safetensors: the adapter is gone"):
        export_candidate(store, key, tmp_path / "bad", check=False)
    assert not (tmp_path / "bad").exists()


def test_the_learning_rate_grows_as_components_go(folder: Path, tmp_path: Path) -> None:
    growing = trial_of("prunedlora", folder)
    store, logs = Store(str(tmp_path / "s")), {}
    store.create_or_open(sweep_tree(folder, store.uri))
    for power in (0.0, 0.5, 1.0):
        trial = trial_with(growing, {"pruning.rate_growth": power})
        run(trial, store, AssetCache(CPU))
        logs[power] = [line for line in store.read_log(trial_key(trial)) if "loss" in line]
    ranks, peaks = 6.0, [line["learning_rate"] for line in logs[0.0] if "learning_rate" in line]
    for i, peak in enumerate(peaks):
        assert logs[0.5][i]["learning_rate"] == pytest.approx(peak * (6 / ranks) ** 0.5)
        assert logs[1.0][i]["learning_rate"] == pytest.approx(peak * 6 / ranks)
        if now := logs[0.0][i].get("ranks"):
            ranks = sum(now.values()) / len(now)
    assert ranks == 3


def test_ranks_go_where_the_method_says(folder: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.create_or_open(sweep_tree(folder, store.uri))
    assets = AssetCache(CPU)
    ranks = {}
    for method in ("lora", "l1ra", "adalora", "svd"):
        trial = trial_of(method, folder)
        assert run(trial, store, assets) == "completed"
        record = store.read_record(trial_key(trial))
        assert record is not None
        ranks[method] = list(record.candidates[-1].ranks.values())
    num_layers = len(ranks["lora"])
    assert set(ranks["lora"]) == {6}
    assert sum(ranks["l1ra"]) == 6 * num_layers
    assert sum(ranks["adalora"]) == 3 * num_layers
    assert set(ranks["svd"]) == {1}
