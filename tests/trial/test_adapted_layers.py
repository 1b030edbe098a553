"""Models of which a text task trains a part: that part alone is adapted, pruned, exported and told."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prunedlora.adapters.reach import Reach
from prunedlora.config.fields import with_values
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.results.record import TrialRecord
from prunedlora.results.share_text import FACT, record_share_text
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial import assets
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.families import gemma3, mixtral, put_in_place
from tests.tiny import decoder_tree

ALONE = Workers(0, 1, torch.device("cpu"))
EXPERTS = "model.layers.*.mlp.experts.down_proj, model.layers.*.mlp.experts.gate_up_proj"


def run(tree: dict[str, Any]) -> tuple[Store, TrialRecord]:
    store = Store(tree["storage"])
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    execute_trial(
        trial, trial_key(trial), store=store, assets=AssetCache(ALONE.device), workers=ALONE, epoch=1, max_attempts=1,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record = store.read_record(trial_key(trial))
    assert record is not None
    return store, record


def trained(tree: dict[str, Any]) -> tuple[Store, TrialRecord]:
    store, record = run(tree)
    assert record.status == "completed", record.failure
    return store, record


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    return decoder_tree(tmp_path, tmp_path / "store")


def test_a_text_task_adapts_and_prunes_the_language_model_and_not_the_vision_tower(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    put_in_place(tmp_path / "decoder", gemma3(vocab_size=208))
    store, record = trained(tree)
    last = record.candidates[-1]
    assert len(last.ranks) == 14
    assert all(name.startswith("model.language_model.layers.") for name in last.ranks)
    # Half of what was there is gone, out of layers that are used: before, it was the vision tower's half.
    assert sum(last.ranks.values()) == 14 * 4 / 2
    text = record_share_text(record)
    assert text is not None
    assert text.startswith("adapts 14 of 29 linear layers (")
    assert text.endswith("no gradient from this task, so not adapted: model.vision_tower (15)")
    facts = export_candidate(store, record.key, tmp_path / "out", check=True)
    assert facts["max_logit_difference_reloaded"] < 1e-4
    assert not any("vision" in name for name in load_file(tmp_path / "out" / "adapter_model.safetensors"))
    assert f"The training {text}." in (tmp_path / "out" / "README.md").read_text()
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["environment"]["model"][FACT]["unreached"] == {"model.vision_tower": 15}


def test_layers_without_a_gradient_fail_the_trial_where_reach_is_not_known(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(tmp_path / "decoder", gemma3(vocab_size=208))
    monkeypatch.setattr(assets, "find_reach", lambda *_: Reach(None, "needs CUDA"))
    _, record = run(tree)
    assert record.failure is not None
    assert (record.failure.type, record.failure.step) == ("NoGradientError", 0)
    assert record.failure.message.startswith("no gradient reaches 15 adapted layers: model.vision_tower.")
    assert record.failure.message.endswith("leave them out of target_modules")
    text = record_share_text(record)
    assert text is not None
    assert text.endswith("which layers get a gradient is not known, and all are taken to: needs CUDA")


@pytest.mark.parametrize("method", ["prunedlora", "lora"])
def test_stacked_experts_are_left_out_and_the_record_says_so(tree: dict[str, Any], tmp_path: Path, method: str) -> None:
    put_in_place(tmp_path / "decoder", mixtral(vocab_size=208))
    if method != "prunedlora":
        tree = with_values(tree, {"trial.adapter.method": method, "trial.pruning": None})
    store, record = trained(tree)
    assert len(record.candidates[-1].ranks) == 8
    text = record_share_text(record)
    assert text is not None
    assert text.startswith("adapts 8 of 8 linear layers (")
    assert text.endswith(f"of the base's parameters) are not adapted: {EXPERTS}")
    facts = export_candidate(store, record.key, tmp_path / "out", check=True)
    assert facts["max_logit_difference_merged"] < 1e-4


def test_a_plain_model_is_adapted_as_before(tree: dict[str, Any]) -> None:
    _, record = trained(tree)
    assert len(record.candidates[-1].ranks) == 14
    share = record.environment.model[FACT]
    assert isinstance(share, dict)
    assert (share["num_layers"], share["num_linear"], share["unreached"], share["stacked"]) == (14, 14, {}, {})
