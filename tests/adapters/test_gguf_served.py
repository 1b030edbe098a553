"""llama.cpp itself with adapters out of GGUF files: its logits change by what PEFT's change by, for every type that is
told to be served so."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from peft import PeftModel

from prunedlora.adapters.gguf_adapter import write_gguf
from prunedlora.adapters.repack import store_as
from prunedlora.benchmarks.product.llama_cpp_server import LlamaCppServer
from prunedlora.servers.gguf_types import GGUF_MODEL_TYPES
from tests.gguf_models import OWN, VOCABULARY, export_tiny_adapter, next_token, tiny_language_model, write_base

PROMPTS = ([5, 9, 33, 2, 17, 40, 3], [60, 1], [8, 8, 8, 21, 4, 50, 12, 30, 31, 7, 19])
LINEAR = [
    "q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj", "lm_head"
]  # fmt: skip
RANKS = [3, 1, 0, 2, 4, 0, 1, 4]
TOLERANCE = {"float32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}


@pytest.mark.needs("llama-cpp")
@pytest.mark.parametrize("model_type", sorted(GGUF_MODEL_TYPES))
def test_logits_change_as_with_peft(model_type: str, tmp_path: Path) -> None:
    """All linear layers of ranks that differ, the output embedding too where it is one of its own, in every type of
    numbers."""
    model = tiny_language_model(model_type)
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = [
        kind for kind in LINEAR if kind in there and not (kind == "lm_head" and model.config.tie_word_embeddings)
    ]
    export_tiny_adapter(model, tmp_path / "float32", RANKS, targets)
    files = {dtype: tmp_path / f"{dtype}.gguf" for dtype in TOLERANCE}
    for dtype, file in files.items():
        folder = tmp_path / dtype
        if dtype != "float32":
            shutil.copytree(tmp_path / "float32", folder)
            store_as(folder, dtype)
        write_gguf(folder, file, model.config)
    server = LlamaCppServer(write_base(model, tmp_path / "base.gguf"), files, VOCABULARY)
    before = [(next_token(model, ids), server.log_probabilities(ids, None)) for ids in PROMPTS]
    for ours, its in before:
        np.testing.assert_allclose(its, ours, rtol=0, atol=2e-3)
    adapted = PeftModel.from_pretrained(model, tmp_path / "float32").eval()
    for dtype, tolerance in TOLERANCE.items():
        for ids, (ours, its) in zip(PROMPTS, before, strict=True):
            expected = next_token(adapted, ids) - ours
            found = server.log_probabilities(ids, dtype) - its
            assert np.linalg.norm(expected) > 1
            assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected), (dtype, ids)


def test_every_type_that_is_said_to_be_known_is_tried() -> None:
    assert set(OWN) == GGUF_MODEL_TYPES
