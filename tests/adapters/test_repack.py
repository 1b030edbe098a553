"""One rank in all layers: the same update in every loader that the plain folder is wrong, or refused, in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.repack import RepackError, make_uniform, store_as
from prunedlora.adapters.size import served_layers
from prunedlora.servers.served_slot import Widths
from tests.adapters.loader_rules import LOADERS, is_right, read
from tests.adapters.test_export import train

NUM_BLOCKS = 2
Make = Callable[[str], nn.Module]
Settings = Callable[..., AdapterSettings]


def exported(
    kind: str, ranks: list[int], folder: Path, make_model: Make, settings: Settings, **given: object
) -> Widths:
    adapted = attach(make_model(kind), settings(kind, **given), "default", 0)
    train(adapted, ranks)
    export(adapted, "default", folder, "some/base")
    served = served_layers(adapted)
    assert served is not None
    return served.linear


def updates(base: nn.Module, folder: Path) -> dict[str, torch.Tensor]:
    """Layer → scaling · B A, as PEFT has it."""
    model = PeftModel.from_pretrained(base, folder)
    return {layer.name: layer.scaling * (layer.B @ layer.A).detach() for layer in adapted_layers(model, "default")}


# q, k, v, o, gate, up, down in turn: in the second block other ranks are 0 than in the first.
UNEQUAL = [3, 1, 0, 2, 4, 0, 1, 0, 4]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "llama_classifier"])
@pytest.mark.parametrize("rank", [4, 16])
def test_peft_has_the_update_of_every_layer_unchanged(
    kind: str, rank: int, make_model: Make, settings: Settings, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    widths = exported(kind, UNEQUAL, tmp_path / "plain", make_model, settings)
    shutil.copytree(tmp_path / "plain", tmp_path / "uniform")
    make_uniform(tmp_path / "uniform", rank, widths)
    before, after = (updates(make_model(kind), tmp_path / form) for form in ("plain", "uniform"))
    assert len(before) < len(after)
    for name, update in after.items():
        expected = before.get(name, torch.zeros_like(update))
        torch.testing.assert_close(update, expected, rtol=0, atol=1e-12)
    plain, uniform = (
        PeftModel.from_pretrained(make_model(kind), tmp_path / form).eval() for form in ("plain", "uniform")
    )
    torch.testing.assert_close(uniform(**batch).logits, plain(**batch).logits, rtol=0, atol=1e-12)
    config, pairs = read(tmp_path / "uniform")
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (rank, rank, {}, {})
    assert {A.shape[0] for A, _ in pairs.values()} == {B.shape[1] for _, B in pairs.values()} == {rank}
    assert sorted(config["target_modules"]) == sorted(pairs)


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_comes_to_that_update(loader: str, make_model: Make, settings: Settings, tmp_path: Path) -> None:
    widths = exported("llama", UNEQUAL, tmp_path / "plain", make_model, settings)
    expected = updates(make_model("llama"), tmp_path / "plain")
    assert is_right(loader, tmp_path / "plain", expected, NUM_BLOCKS) == (loader == "vLLM")
    make_uniform(tmp_path / "plain", 16, widths)
    assert is_right(loader, tmp_path / "plain", expected, NUM_BLOCKS)


def test_llama_cpp_is_that_many_times_too_strong(make_model: Make, settings: Settings, tmp_path: Path) -> None:
    """What the plain folder costs there: a layer of rank 1 beside a largest rank of 4 counts four times."""
    exported("llama", UNEQUAL, tmp_path, make_model, settings)
    expected = updates(make_model("llama"), tmp_path)
    found = LOADERS["llama.cpp (Ollama, LM Studio)"](*read(tmp_path), NUM_BLOCKS)
    factors = {name: 4 / len(A) for name, (A, _) in read(tmp_path)[1].items()}
    assert set(factors.values()) == {1.0, 4 / 3, 2.0, 4.0}
    for name, factor in factors.items():
        torch.testing.assert_close(found[name], factor * expected[name], rtol=1e-12, atol=1e-12)


def test_blocks_that_were_not_adapted_are_filled_and_other_types_are_not(
    make_model: Make, settings: Settings, tmp_path: Path
) -> None:
    """k comes with q and v, which servers fuse; the second block, which LoRAX walks through, is there."""
    given = {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0]}
    widths = exported("llama", [2], tmp_path, make_model, settings, **given)
    make_uniform(tmp_path, 2, widths)
    _, pairs = read(tmp_path)
    assert list(pairs) == sorted(
        f"model.layers.{block}.self_attn.{name}"
        for block in range(NUM_BLOCKS)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    assert not pairs["model.layers.0.self_attn.k_proj"][1].any()
    assert PeftModel.from_pretrained(make_model("llama"), tmp_path).get_nb_trainable_parameters()[1] > 0


def test_a_rank_below_a_layers_own_is_refused(make_model: Make, settings: Settings, tmp_path: Path) -> None:
    widths = exported("llama", UNEQUAL, tmp_path, make_model, settings)
    before = (tmp_path / "adapter_config.json").read_text()
    with pytest.raises(RepackError, match=r"model\.layers\.\d.*_proj has rank \d, above 2"):
        make_uniform(tmp_path, 2, widths)
    assert (tmp_path / "adapter_config.json").read_text() == before


def test_the_head_stays_and_is_stored_in_the_type_too(make_model: Make, settings: Settings, tmp_path: Path) -> None:
    widths = exported("bert", UNEQUAL, tmp_path, make_model, settings)
    heads = {
        name: tensor for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items() if "lora" not in name
    }
    make_uniform(tmp_path, 4, widths)
    store_as(tmp_path, "bfloat16")
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert heads
    for name, tensor in heads.items():
        torch.testing.assert_close(stored[name], tensor.bfloat16(), rtol=0, atol=0)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == [
        "bert.pooler",
        "classifier",
    ]
