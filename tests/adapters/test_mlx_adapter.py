"""An exported adapter in MLX's format: the same update, of one rank; that mlx-lm comes to it is measured
(`jobs/benchmark.py served-logits`)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunedlora.adapters.mlx_adapter import MLX_WEIGHTS, MlxError, write_mlx
from prunedlora.benchmarks.product.unequal_adapter import write_unequal
from tests.gguf_models import tiny_language_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int], int]:
    """An exported folder, its ranks, and the number of blocks of its base."""
    folder, model = tmp_path_factory.mktemp("unequal") / "peft", tiny_language_model("llama")
    return folder, write_unequal(model, folder), model.config.num_hidden_layers


def test_the_update_is_the_same_and_of_one_rank(exported: tuple[Path, dict[str, int], int], tmp_path: Path) -> None:
    folder, ranks, num_blocks = exported
    write_mlx(folder, tmp_path, num_blocks)
    state, found = load_file(folder / "adapter_model.safetensors"), load_file(tmp_path / MLX_WEIGHTS)
    assert len(set(ranks.values())) > 1
    assert set(found) == {f"{layer}.lora_{factor}" for layer in ranks for factor in "ab"}
    for layer in ranks:
        a, b = found[f"{layer}.lora_a"], found[f"{layer}.lora_b"]
        A, B = (state[f"base_model.model.{layer}.lora_{factor}.weight"] for factor in "AB")
        assert (a.shape[1], b.shape[0]) == (16, 16)
        torch.testing.assert_close((a @ b).T, B @ A, rtol=0, atol=1e-6)  # y = x W + (x a) b


def test_the_configuration_is_mlx_lms(exported: tuple[Path, dict[str, int], int], tmp_path: Path) -> None:
    folder, _, num_blocks = exported
    write_mlx(folder, tmp_path, num_blocks)
    keys = ["mlp.down_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj"]
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "fine_tune_type": "lora",
        "num_layers": num_blocks,
        "lora_parameters": {"rank": 16, "scale": 1.0, "dropout": 0.0, "keys": keys},
    }


def test_refuses_a_head(exported: tuple[Path, dict[str, int], int], tmp_path: Path) -> None:
    folder, _, num_blocks = exported
    state = load_file(folder / "adapter_model.safetensors")
    save_file(state | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    with pytest.raises(MlxError, match=r"base_model\.model\.lm_head\.weight is no factor of a layer of a block"):
        write_mlx(tmp_path, tmp_path / "to", num_blocks)
    assert not (tmp_path / "to").exists()


def test_refuses_layers_that_keep_their_weight_transposed(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"fan_in_fan_out": true}')
    with pytest.raises(MlxError, match="whose weights are"):
        write_mlx(tmp_path, tmp_path / "to", 2)
