"""A trial that begins with an adapter that exists: trained on, exported, resumed; and whose adapter it was."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import _snapshot_download, constants
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from prunedlora.adapters.existing import ExistingAdapterError
from prunedlora.adapters.reach import Reach
from prunedlora.config import identity
from prunedlora.config.identity import LocationError, ranks_digest, trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.sweep.model_checks import model_warnings
from prunedlora.sweep.preflight import preflight
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial import begin
from prunedlora.trial import start as starting
from prunedlora.trial.assemble import build_method
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.outside_error import NodeError
from prunedlora.trial.start import share_of, start_of
from tests.tiny import decoder_tree, sweep_tree

CPU = torch.device("cpu")
ASSETS = AssetCache(CPU)
FORMS: dict[str, dict[str, Any]] = {
    "rslora with patterns": {
        "r": 3, "lora_alpha": 5, "use_rslora": True, "target_modules": ["q_proj", "down_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 6}, "alpha_pattern": {"down_proj": 2}, "task_type": "CAUSAL_LM",
    },
    "one rank": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models and data, and adapters that plain PEFT has made of them."""
    home = tmp_path_factory.mktemp("home")
    decoder_tree(home, home), sweep_tree(home, home)
    for form, fields in FORMS.items():
        _made_elsewhere(AutoModelForCausalLM.from_pretrained(home / "decoder"), home / form, fields)
    bert = AutoModelForSequenceClassification.from_pretrained(home / "model")
    heads = {"r": 2, "target_modules": ["query", "value"], "modules_to_save": ["bert.pooler"], "task_type": "SEQ_CLS"}
    _made_elsewhere(bert, home / "classes", heads)
    return home


def _made_elsewhere(model: Any, folder: Path, fields: dict[str, Any]) -> None:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        adapted = get_peft_model(model, LoraConfig(**fields))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        adapted.save_pretrained(folder)


def on(home: Path, name: str, *, method: str = "lora", classes: bool = False, **more: Any) -> TrialConfig:
    tree = (sweep_tree if classes else decoder_tree)(home, home / "unused")["trial"]
    tree["adapter"] = {"method": method, "start_from": name}
    if classes:
        tree["adapter"]["head_modules"] = ["pooler", "classifier"]
    if method != "prunedlora":
        tree["pruning"] = None
    tree |= more
    return TrialConfig.model_validate(tree)


def run(
    trial: TrialConfig, folder: Path, progress: Callable[[int, int, float], Verdict] = lambda *_: Verdict.CONTINUE
) -> tuple[Store, str, str]:
    store, key = Store(str(folder)), trial_key(trial)
    store.create_or_open({})
    status = execute_trial(
        trial, key, store=store, assets=ASSETS, workers=Workers(0, 1, CPU), epoch=1, max_attempts=3,
        report=lambda _: Verdict.CONTINUE, progress=progress,
    )  # fmt: skip
    return store, key, status


def weights(store: Store, key: str, step: int) -> dict[str, torch.Tensor]:
    path = Path(store.uri) / store.trial_path(key, f"adapters/{step:06d}") / "adapter_model.safetensors"
    return load_file(path)


@torch.no_grad()
def logits(model: Any, home: Path, base: str) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(home / base)("alpha river stone 17", return_tensors="pt")
    return model.eval()(**tokens).logits


@pytest.mark.parametrize("method", ["lora", pytest.param("droplora", marks=pytest.mark.slow)])
def test_layers_of_unequal_ranks_train_on_and_resume_bit_for_bit(method: str, home: Path, tmp_path: Path) -> None:
    own = {"droplora": {"probability": 0.3, "granularity": "rank"}} if method == "droplora" else {}
    trial = on(home, str(home / "rslora with patterns"), method=method, **own)
    store, key, status = run(trial, tmp_path / "whole")
    assert status == "completed"
    record = store.read_record(key)
    assert record is not None
    assert record.environment.model["adapter"]["start_from"] == str(home / "rslora with patterns")
    assert len(record.environment.model["adapter"]["sha256"]) == 64
    last = record.candidates[-1]
    assert sorted(set(last.ranks.values())) == [3, 6]
    assert last.figures["loss"].value < record.candidates[0].figures["loss"].value
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(home / "decoder"), f"{store.uri}/trials/{key}/{last.adapter_path}"
    )
    assert record.config["adapter"]["initial_rank"] is None
    assert logits(again, home, "decoder").isfinite().all()

    paused = run(trial, tmp_path / "parts", lambda step, *_: Verdict.PAUSE if step == 4 else Verdict.CONTINUE)
    assert paused[2] == "paused"
    assert run(trial, tmp_path / "parts")[2] == "completed"
    found, expected = weights(paused[0], key, 12), weights(store, key, 12)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("form", FORMS)
def test_before_a_step_it_is_what_plain_peft_loads(form: str, home: Path) -> None:
    trial = on(home, str(home / form))
    base = AutoModelForCausalLM.from_pretrained(home / "decoder")
    with torch.no_grad():
        plain = PeftModel.from_pretrained(base, str(home / form))
        expected = logits(plain, home, "decoder")
    method = build_method(trial, 12)
    ours = method.attach(AutoModelForCausalLM.from_pretrained(home / "decoder"), "default")
    assert (logits(ours, home, "decoder") - expected).abs().max() < 1e-6


def test_a_candidate_of_a_store_is_pruned_further(home: Path, tmp_path: Path) -> None:
    store, key, _ = run(on(home, str(home / "one rank")), tmp_path / "first")
    name = f"store:{store.uri}/{key[:6]}@12"
    pruning = decoder_tree(home, home)["trial"]["pruning"]
    trial = on(home, name, method="prunedlora", pruning=pruning)
    exported = tmp_path / "exported"
    shutil.copytree(Path(store.uri) / store.trial_path(key, "adapters/000012"), exported)
    assert trial_key(trial) == trial_key(on(home, str(exported), method="prunedlora", pruning=pruning))
    shared = Store("memory://shared/first")  # an object store
    shared.create_or_open({})
    shared.write_record(store.read_record(key), 1)  # type: ignore[arg-type]
    shared.upload_folder(exported, shared.trial_path(key, "adapters/000012"))
    there = on(home, f"store:{shared.uri}/{key}@12", method="prunedlora", pruning=pruning)
    assert trial_key(there) == trial_key(trial)
    assert start_of(there).facts["sha256"] == start_of(trial).facts["sha256"]  # type: ignore[union-attr]

    second, pruned, status = run(trial, tmp_path / "second")
    record = second.read_record(pruned)
    assert status == "completed"
    assert record is not None
    assert set(record.candidates[-1].ranks.values()) == {2}
    assert record.environment.model["adapter"]["sha256"] == store.read_record(key).candidates[-1].file_sha256  # type: ignore[union-attr]
    fresh = on(home, name)
    start = start_of(fresh)
    assert start is not None
    assert start.existing is not None
    assert start.existing.folder == start_of(fresh).existing.folder  # type: ignore[union-attr]

    ranks = {"method": "lora", "rank_pattern_from": f"store:{second.uri}/{pruned}", "alpha": 4}
    third, taken, status = run(on(home, name, adapter=ranks), tmp_path / "third")
    record = third.read_record(taken)
    assert record is not None
    assert record.candidates[-1].ranks == second.read_record(pruned).candidates[-1].ranks  # type: ignore[union-attr]
    facts = record.environment.model["adapter"]
    assert facts["rank_pattern_from"] == f"store:{second.uri}/{pruned}"
    assert facts["ranks_sha256"] == ranks_digest(record.candidates[-1].ranks)


@pytest.mark.parametrize("allocation", [pytest.param("uniform", marks=pytest.mark.slow), "global_per_parameter"])
def test_layers_of_unequal_ranks_are_pruned(allocation: str, home: Path, tmp_path: Path) -> None:
    schedule = {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2}
    pruning = {"target_sparsity": 0.5, "allocation": allocation, "min_rank": 0, "schedule": schedule}
    trial = on(home, str(home / "rslora with patterns"), method="prunedlora", pruning=pruning)
    store, key, status = run(trial, tmp_path / "whole")
    record = store.read_record(key)
    assert record is not None
    assert status == "completed", record.failure
    first, last = record.candidates[0], record.candidates[-1]
    assert last.adapter_params < first.adapter_params
    assert max(first.ranks.values()) <= 6
    run(trial, tmp_path / "parts", lambda step, *_: Verdict.PAUSE if step == 7 else Verdict.CONTINUE)
    parts, _, _ = run(trial, tmp_path / "parts")
    found, expected = weights(parts, key, 12), weights(store, key, 12)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_adapter_in_the_cache_of_the_hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--some--adapter" / "snapshots" / ("c" * 40)
    shutil.copytree(home / "one rank", snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(_snapshot_download.constants, "HF_HUB_CACHE", str(tmp_path))
    start = start_of(on(home, "", adapter={"method": "lora", "start_from": "some/adapter", "revision": "c" * 40}))
    assert start is not None
    assert start.existing is not None
    assert start.existing.folder == snapshot.resolve()
    assert start.facts["revision"] == "c" * 40
    ranks = {"method": "lora", "rank_pattern_from": "some/adapter", "revision": "c" * 40, "alpha": 2}
    pattern = start_of(on(home, "", adapter=ranks))
    assert pattern is not None
    assert pattern.ranks is not None
    assert set(pattern.ranks.values()) == {4}
    assert pattern.facts["ranks_sha256"] == ranks_digest(pattern.ranks)
    monkeypatch.setattr(starting, "snapshot_download", None)  # a commit is asked for once
    assert start_of(on(home, "", adapter=ranks)) == pattern


def test_a_stored_adapter_that_is_damaged_or_gone(home: Path, tmp_path: Path) -> None:
    store, key, _ = run(on(home, str(home / "one rank")), tmp_path / "store")
    folder = Path(store.uri) / store.trial_path(key, "adapters/000006")
    (folder / "adapter_model.safetensors").write_bytes(b"cut")
    trial = on(home, f"store:{store.uri}/{key}@6")
    with pytest.raises(StoreError, match="is damaged: its weights are gone, or are not those that were recorded"):
        start_of(trial)
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="does not exist: the adapter is gone"):
        start_of(trial)


def test_a_head_and_its_classes(home: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(home / "classes", theirs)
    trial = on(home, str(theirs), classes=True)
    store, key, status = run(trial, tmp_path / "store")
    record = store.read_record(key)
    assert status == "completed"
    assert record is not None
    assert record.candidates[-1].head_params > 0
    head = "base_model.model.classifier.weight"
    moved = weights(store, key, 6)[head] - load_file(theirs / "adapter_model.safetensors")[head]
    assert 0 < moved.abs().max() < 0.1  # six steps from what it was, not from a fresh draw

    (theirs / "labels.json").write_text(json.dumps({"0": "front", "1": "rear"}))
    other, key, status = run(trial, tmp_path / "other")
    failed = other.read_record(key)
    assert status == "failed"
    assert failed is not None
    assert failed.failure is not None
    assert "none of those that data.labels or the adapter tells: 'back'" in failed.failure.message
    assert failed.failure.fault == "user"


def test_another_base_model_is_refused_unless_said(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "decoder", tmp_path / "copy")
    fields = {"method": "lora", "start_from": str(home / "one rank")}
    model = {"name": str(tmp_path / "copy")}
    with pytest.raises(
        ExistingAdapterError, match=r"is of base model '.*decoder', not of '.*copy'; .*other_base: true"
    ):
        start_of(on(home, "", model=model, adapter=fields))
    assert start_of(on(home, "", model=model, adapter={**fields, "other_base": True})) is not None


def test_a_node_without_the_adapter_does_not_begin(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "one rank", tmp_path / "there")
    trial = on(home, str(tmp_path / "there"))
    key = trial_key(trial)
    shutil.rmtree(tmp_path / "there")
    store = Store(str(tmp_path / "store"))
    store.create_or_open({})
    with pytest.raises(NodeError, match=r"adapter of trial .* could not be loaded on node .*LocationError"):
        execute_trial(
            trial, key, store=store, assets=AssetCache(CPU), workers=Workers(0, 1, CPU), epoch=1, max_attempts=3,
            report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
        )  # fmt: skip
    assert store.read_record(key) is None
    with pytest.raises(LocationError, match="the Hub does not give it"):
        start_of(on(home, "nobody/nothing"))


def test_preflight_says_what_does_not_fit_and_what_is_not_known(home: Path, tmp_path: Path) -> None:
    def found(**adapter: Any) -> Any:
        tree = sweep_tree(home, tmp_path / "store")
        tree["trial"] |= {
            "pruning": None,
            "adapter": {"method": "lora", "head_modules": ["pooler", "classifier"], **adapter},
        }
        tree["space"] = {"optimizer.learning_rate": {"log_uniform": [1e-3, 1e-2]}}
        return preflight(parse_sweep(tree, "test"))

    findings = found(start_from=str(home / "classes"))
    assert any("does not say the order of its classes" in warning for warning in findings.warnings)
    assert findings.shares[0].num_layers == 4
    with pytest.raises(
        ExistingAdapterError, match=r"set adapter\.head_modules to \['bert.pooler', 'classifier'\], with"
    ):
        found(start_from=str(home / "classes"), head_modules=["classifier"])
    unnamed = tmp_path / "unnamed"
    shutil.copytree(home / "classes", unnamed)
    config = json.loads((unnamed / "adapter_config.json").read_text())
    (unnamed / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    assert any("does not name its base model" in warning for warning in found(start_from=str(unnamed)).warnings)
    assert found(rank_pattern_from=str(home / "classes"), alpha=4).shares == findings.shares


def test_layers_that_the_task_does_not_reach_are_told_and_recorded_as_left_out(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "one rank", tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_model.safetensors"
    save_file({key: tensor * ("v_proj.lora_B" not in key) for key, tensor in load_file(path).items()}, path)
    trial = on(home, str(tmp_path / "theirs"))
    assets = ASSETS.get(trial)
    reached = {name for name, _ in assets.skeleton.model.named_modules() if "v_proj" not in name}
    skeleton = replace(assets.skeleton, reach=Reach(frozenset(reached)))
    (warning,) = model_warnings(trial, assets.task, skeleton)
    assert "2 of its layers, which do nothing yet (B is zero), are left out: the task does not reach model" in warning
    share = share_of(trial, skeleton, start_of(trial))
    assert share is not None
    assert share.num_layers == 2
    assert sum(share.unreached.values()) == 2


def test_an_adapter_is_read_for_its_checksum_once_a_trial(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED_AFTER_NS", 0)
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    trial = on(home, str(home / "rslora with patterns"))
    begun: list[Any] = []
    first = start_of
    monkeypatch.setattr(begin, "start_of", lambda given: begun.append(given) or first(given))
    monkeypatch.setattr(starting, "start_of", lambda given: begun.append(given) or first(given))
    trial_key(trial)
    loaded = begin.load(trial, "k", ASSETS, Workers(0, 1, CPU))
    assert isinstance(loaded, begin.Loaded)
    build_method(trial, 12, loaded.assets.skeleton.reach.modules)
    assert len(begun) == 1
    assert sum(name.endswith("adapter_model.safetensors") and "rslora" in name for name in read) <= 1
