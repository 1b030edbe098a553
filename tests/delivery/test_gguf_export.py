"""`prunedlora export --gguf`: a folder for llama.cpp, out of a store."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config
from typer.testing import CliRunner

from prunedlora.adapters.gguf_adapter import GgufError
from prunedlora.benchmarks.product.llama_cpp_server import LlamaCppServer
from prunedlora.cli import app
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.form import Form
from prunedlora.delivery.stored_adapter import AS_RECORDED
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.gguf_models import next_token, write_base
from tests.tiny import decoder_tree

ALONE = Workers(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, Path]:
    """A store with one pruned trial on a tiny Llama, its key, and the base model's folder."""
    folder = tmp_path_factory.mktemp("tiny")
    store = Store(str(folder / "store"))
    tree = decoder_tree(folder, store.uri)
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    execute_trial(
        trial, key, store=store, assets=AssetCache(ALONE.device), workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    return store, key, folder / "decoder"


def test_by_command(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, _ = trained
    asked = ["export", store.uri, key, "--to", str(tmp_path / "a"), "--gguf", "--dtype", "float16"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"adapter.gguf", "README.md", "certificate.json"}
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "a" / "adapter.gguf").tensors}
    assert f"gguf_tensors_read_back: {len(tensors)}" in result.output
    certificate = json.loads((tmp_path / "a" / "certificate.json").read_text())
    ranks = {name: rank for name, rank in certificate["ranks"].items() if rank}
    assert len(tensors) == 2 * len(ranks)
    assert sum(tensor.n_elements for tensor in tensors.values()) == certificate["adapter_params"]
    assert {tensor.tensor_type.name for tensor in tensors.values()} == {"F16"}
    assert certificate["form"]["gguf"]
    assert certificate["file_bytes"] == (tmp_path / "a" / "adapter.gguf").stat().st_size
    checks = certificate["checks"]
    assert checks["gguf_tensors_read_back"] == len(tensors)
    assert checks["max_logit_difference_handed_over"] < 0.05  # of the numbers in float16, by PEFT
    assert checks["max_logit_difference_merged"] < 1e-3
    said = "Here it is a GGUF file, in which every layer keeps its rank; it is stored in float16."
    assert said in (tmp_path / "a" / "README.md").read_text()


def test_as_trained_and_not_checked_against_the_base(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, _ = trained
    facts = export_candidate(store, key, tmp_path / "a", check=False, form=Form(gguf=True))
    export_candidate(store, key, tmp_path / "plain", check=False)
    plain = load_file(tmp_path / "plain" / "adapter_model.safetensors")
    assert facts == {"weights_file": AS_RECORDED, "gguf_tensors_read_back": len(plain)}


@pytest.mark.needs("llama-cpp")
def test_llama_cpp_answers_as_peft(trained: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, key, folder = trained
    export_candidate(store, key, tmp_path / "a", check=False, form=Form(gguf=True))
    export_candidate(store, key, tmp_path / "plain", check=False)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    size, ids = base.config.vocab_size, [40, 7, 91, 12, 60]
    files = {"adapter": tmp_path / "a" / "adapter.gguf"}
    server = LlamaCppServer(write_base(base, tmp_path / "base.gguf"), files, size)
    before = next_token(base, ids)
    expected = next_token(PeftModel.from_pretrained(base, tmp_path / "plain").eval(), ids) - before
    found = server.log_probabilities(ids, "adapter") - server.log_probabilities(ids, None)
    assert np.linalg.norm(expected) > 1
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)


def test_a_base_model_that_was_not_tried_is_refused_before_anything_is_loaded(
    trained: tuple[Store, str, Path], tmp_path: Path
) -> None:
    store, key, base = trained
    saved = (base / "config.json").read_text()
    GPT2Config().save_pretrained(base)
    try:
        with pytest.raises(GgufError, match="no GGUF adapters for models of type 'gpt2', but for gemma2,"):
            export_candidate(store, key, tmp_path / "a", check=True, form=Form(gguf=True))
    finally:
        (base / "config.json").write_text(saved)
    assert not (tmp_path / "a").exists()
