"""A folder written from factors alone is, in plain PEFT, the adapter that was to be written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunedlora.adapters.existing import ExistingAdapter
from prunedlora.adapters.export import AllRanksZeroError
from prunedlora.adapters.factor_folder import NotReadBackError, read_back, write_factors
from prunedlora.adapters.file_layers import AdapterSizes, read_factors
from prunedlora.adapters.update_spectrum import Factors
from tests.adapters import test_existing
from tests.adapters.test_existing import made_elsewhere
from tests.plain_adapters import change_config, change_weights, loaded, saved_adapter, updates

FORMS: dict[str, dict[str, Any]] = {
    "rslora with patterns": {
        "use_rslora": True, "rank_pattern": {"blocks.2.query": 3, "blocks.10.up": 5}, "alpha_pattern": {"query": 2}
    },
    "some blocks": {"layers_to_transform": [1, 2, 10], "layers_pattern": "blocks"},
    "all but some, and a head": {"exclude_modules": r"blocks\.1\..*", "modules_to_save": ["score"]},
    "a gaussian beginning": {"init_lora_weights": "gaussian", "target_modules": r"blocks\.\d\.up"},
}  # fmt: skip


def read(folder: Path) -> tuple[AdapterSizes, list[Factors], dict[str, Tensor]]:
    return read_factors(ExistingAdapter("theirs", folder))


def half(factors: list[Factors]) -> list[Factors]:
    """Layers with all, some or none of their components."""
    return [(A[: index % 4], B[:, : index % 4]) for index, (A, B) in enumerate(factors)]


@pytest.mark.parametrize("form", FORMS)
def test_plain_peft_loads_the_updates_and_no_other_layer(form: str, tmp_path: Path) -> None:
    saved_adapter(tmp_path / "theirs", **FORMS[form])
    sizes, factors, others = read(tmp_path / "theirs")
    cut = half(factors)
    write_factors(tmp_path / "cut", sizes, cut, others)
    assert read_back(tmp_path / "cut", sizes, cut, others) < 1e-6
    model = loaded(tmp_path / "cut")
    found = updates(model)
    assert found.keys() == {layer.name for layer, (A, _) in zip(sizes.layers, cut, strict=True) if len(A)}
    assert len(found) < len(sizes.layers)
    for layer, (A, B) in zip(sizes.layers, cut, strict=True):
        if len(A):
            expected = layer.scaling * B.double() @ A.double()
            assert float((found[layer.name] - expected).norm()) <= 1e-6 * float(expected.norm())
    if others:
        score = model.get_base_model().score.modules_to_save["default"]
        assert torch.equal(score.weight, others["score.weight"])
        assert torch.equal(score.bias, others["score.bias"])
    assert read(tmp_path / "cut")[0].ranks == {name: len(load(tmp_path, name)) for name in found}


def load(folder: Path, name: str) -> Tensor:
    return load_file(folder / "cut" / "adapter_model.safetensors")[f"base_model.model.{name}.lora_A.weight"]


@pytest.mark.parametrize("form", test_existing.FORMS)
def test_plain_peft_loads_it_on_the_base_model_that_it_is_for(
    form: str, make_model: Callable[[str], nn.Module], tmp_path: Path
) -> None:
    """On models of real families: PEFT adds what it added before, less what was cut, and nothing to any other layer."""
    kind, fields = test_existing.FORMS[form]
    whole = made_elsewhere(make_model(kind), tmp_path / "theirs", LoraConfig(**fields))
    sizes, factors, others = read(tmp_path / "theirs")
    cut = [factors[0], (factors[1][0][:0], factors[1][1][:, :0]), *factors[2:]]
    write_factors(tmp_path / "cut", sizes, cut, others)
    assert read_back(tmp_path / "cut", sizes, cut, others) < 1e-6
    left = PeftModel.from_pretrained(make_model(kind), str(tmp_path / "cut"))
    before, after = (updates(model) for model in (whole, left))
    assert before.keys() - after.keys() == {sizes.layers[1].name}
    for name, update in after.items():
        torch.testing.assert_close(update, before[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_factors_keep_the_types_of_the_file(dtype: torch.dtype, tmp_path: Path) -> None:
    saved_adapter(tmp_path / "theirs")
    path = tmp_path / "theirs" / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    sizes, factors, others = read(tmp_path / "theirs")
    assert {A.dtype for A, _ in factors} == {torch.float64 if dtype == torch.float64 else torch.float32}
    write_factors(tmp_path / "cut", sizes, factors, others)
    assert {tensor.dtype for tensor in load_file(tmp_path / "cut" / "adapter_model.safetensors").values()} == {dtype}
    difference = read_back(tmp_path / "cut", sizes, factors, others)
    assert difference <= torch.finfo(dtype).eps + 1e-7  # PEFT adds in float32


def test_weights_of_the_base_stay_beside_the_factors(tmp_path: Path) -> None:
    saved_adapter(tmp_path / "theirs")
    change_weights(tmp_path / "theirs", tokens__weight=torch.arange(70.0).view(7, 10))
    sizes, factors, others = read(tmp_path / "theirs")
    write_factors(tmp_path / "cut", sizes, half(factors), others)
    assert read_back(tmp_path / "cut", sizes, half(factors), others) < 1e-6
    assert torch.equal(loaded(tmp_path / "cut").get_base_model().tokens.weight, torch.arange(70.0).view(7, 10))


def test_a_file_that_is_another_than_what_was_to_be_written_is_told(tmp_path: Path) -> None:
    saved_adapter(tmp_path / "theirs", modules_to_save=["score"])
    sizes, factors, others = read(tmp_path / "theirs")
    folder = tmp_path / "cut"

    def told(factors: list[Factors] = factors) -> str:
        with pytest.raises(NotReadBackError) as caught:
            read_back(folder, sizes, factors, others)
        return str(caught.value)

    write_factors(folder, sizes, factors, others)
    change_config(folder, lora_alpha=6.001)
    assert re.search(r"the update of 'blocks\.0\.query' came back 0\.00017 of its norm away, more than 1e-06", told())
    write_factors(folder, sizes, factors, others)
    change_weights(folder, score__bias=torch.zeros(3))
    assert told().endswith("'score.bias' came back changed")
    A, B = factors[0]
    write_factors(folder, sizes, [(A[:0], B[:, :0]), *factors[1:]], others)
    assert told().endswith("layer 'blocks.0.query' did not come back")
    write_factors(folder, sizes, factors, others)
    assert told([(A[:0], B[:, :0]), *factors[1:]]).endswith("layer 'blocks.0.query' came back")


def test_nothing_is_not_written(tmp_path: Path) -> None:
    saved_adapter(tmp_path / "theirs")
    sizes, factors, others = read(tmp_path / "theirs")
    with pytest.raises(AllRanksZeroError, match=r"^all 22 layers have rank 0; nothing to write$"):
        write_factors(tmp_path / "cut", sizes, [(A[:0], B[:, :0]) for A, B in factors], others)
    assert not (tmp_path / "cut").exists()
