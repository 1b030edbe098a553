"""What an adapter's files say of its layers is what PEFT makes of them; what cannot be cut is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, get_peft_model
from safetensors.torch import load_file, save_file

from prunedlora.adapters.existing import ExistingAdapter, ExistingAdapterError
from prunedlora.adapters.file_layers import adapter_sizes, read_factors
from tests.plain_adapters import Tower, change_config, change_weights, loaded, saved_adapter

FORMS: dict[str, dict[str, Any]] = {
    "one rank": {},
    "patterns": {
        "rank_pattern": {"query": 4, "blocks.3.up": 2, "^blocks.10.up": 5}, "alpha_pattern": {"up": 3.5, "10.up": 7}
    },
    "rslora with patterns": {"use_rslora": True, "rank_pattern": {"blocks.2.query": 3}, "alpha_pattern": {"query": 2}},
    "a regular expression": {"target_modules": r"blocks\.\d\.(query|up)"},
    "a head": {"modules_to_save": ["score"]},
}  # fmt: skip


def theirs(folder: Path) -> ExistingAdapter:
    return ExistingAdapter("theirs", folder)


@pytest.mark.parametrize("form", FORMS)
def test_layers_ranks_and_scalings_are_those_of_peft(form: str, tmp_path: Path) -> None:
    saved_adapter(tmp_path, **FORMS[form])
    model = loaded(tmp_path)  # PEFT sorts patterns when it saves: of two that match, another may win
    sizes, factors, others = read_factors(theirs(tmp_path))
    assert adapter_sizes(theirs(tmp_path)) == sizes
    modules = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if hasattr(m, "lora_A")}
    assert sizes.ranks == {name: module.r["default"] for name, module in modules.items()}
    for layer, (A, B) in zip(sizes.layers, factors, strict=True):
        module = modules[layer.name]
        assert layer.scaling == pytest.approx(module.scaling["default"], rel=1e-15)
        assert (layer.d_in, layer.d_out) == (module.in_features, module.out_features)
        assert torch.equal(A, module.lora_A["default"].weight)
        assert torch.equal(B, module.lora_B["default"].weight)
    assert sizes.params == sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert sizes.heads == others_of(others) == ({"score.weight": 30, "score.bias": 3} if form == "a head" else {})
    names = [layer.name for layer in sizes.layers]
    assert names.index("blocks.2.up") < names.index("blocks.8.query")
    if "blocks.10.up" in names:
        assert names[-1] == "blocks.10.up"


def others_of(others: dict[str, torch.Tensor]) -> dict[str, int]:
    return {name: tensor.numel() for name, tensor in others.items()}


def test_numbers_that_are_not_finite_are_refused_where_they_are_read(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    change_weights(tmp_path, blocks__0__up__lora_B__weight=torch.full((23, 6), torch.nan))
    assert adapter_sizes(theirs(tmp_path)).ranks["blocks.0.up"] == 6
    with pytest.raises(ExistingAdapterError, match=r"not finite \(NaN or infinite\) in .*blocks\.0\.up\.lora_B"):
        read_factors(theirs(tmp_path))


def test_a_bin_file_tells_the_same(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    before = adapter_sizes(theirs(tmp_path))
    path = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(path), tmp_path / "adapter_model.bin")
    path.unlink()
    assert adapter_sizes(theirs(tmp_path)) == before


def test_weights_of_the_base_beside_the_factors_are_told(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    change_weights(tmp_path, tokens__weight=torch.ones(7, 10))
    sizes = adapter_sizes(theirs(tmp_path))
    assert (sizes.heads, sizes.beside) == ({}, {"tokens.weight": 70})


def made(**fields: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        saved_adapter(folder, **fields)

    return make


def not_lora(folder: Path) -> None:
    get_peft_model(Tower(), LoHaConfig(r=2, target_modules=["query"])).save_pretrained(str(folder))


def without_weights(folder: Path) -> None:
    saved_adapter(folder)
    (folder / "adapter_model.safetensors").unlink()


def damaged(folder: Path) -> None:
    saved_adapter(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 40)


def changed(**tensors: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        saved_adapter(folder)
        change_weights(folder, **tensors)

    return make


def configured(**fields: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        saved_adapter(folder)
        change_config(folder, **fields)

    return make


def without_factors(folder: Path) -> None:
    saved_adapter(folder)
    save_file({"base_model.model.tokens.weight": torch.ones(7, 10)}, folder / "adapter_model.safetensors")


def of_another_trainer(folder: Path) -> None:
    saved_adapter(folder)
    save_file({"lora_te_up.lora_down.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "an embedding": (
        made(target_modules=["query", "tokens"]),
        r"adapts 'tokens', an Embedding; linear layers alone are pruned",
    ),
    "a convolution": (
        made(target_modules=["query", "image"]),
        r"adapts 'image', whose A is \(6, 3, 2, 2\) and B \(5, 6, 1, 1\): a convolution's",
    ),
    "DoRA": (made(use_dora=True), r"has use_dora True"),
    "biases": (made(bias="lora_only"), r"has bias 'lora_only'"),
    "another kind": (not_lora, r"is no LoRA but LOHA"),
    "no weights": (without_weights, r"has no adapter_model\.safetensors, nor adapter_model\.bin"),
    "damaged weights": (damaged, r"its weights cannot be read"),
    "no B": (changed(blocks__1__up__lora_B__weight=None), r"1\.up': its lora_B is missing, '.*lora_A.weight' is"),
    "no A": (changed(blocks__1__up__lora_A__weight=None), r"1\.up': its lora_A is missing, '.*lora_B.weight' is"),
    "a magnitude": (
        changed(blocks__1__up__lora_magnitude_vector=torch.ones(3)), r"'base_model.*vector', which is no factor A or B"
    ),
    "another rank": (
        configured(rank_pattern={"blocks.1.up": 3}),
        r"'blocks\.1\.up' has rank 3 in adapter_config\.json, but A \(6, 10\) and B \(23, 6\) in the file",
    ),
    "a pattern that is none": (configured(alpha_pattern={"(": 3}), r"that is no regular expression"),
    "a head that is missing": (configured(modules_to_save=["score"]), r"has no weights for 'score'"),
    "another type": (
        changed(blocks__1__up__lora_A__weight=torch.ones(6, 10).to(torch.float8_e4m3fn)),
        r"'blocks\.1\.up' in a type that is none of float32",
    ),
    "another trainer": (of_another_trainer, r"'lora_te_up\.lora_down\.weight', which is not named as PEFT names them"),
    "nothing adapted": (
        without_factors,
        r"has no factors of a layer in its weights; the first tensor of its file is '.*\.tokens\.weight'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_cut_is_refused_by_name(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    make(tmp_path)
    with pytest.raises(ExistingAdapterError, match=f"^adapter 'theirs'.*{message}"):
        adapter_sizes(theirs(tmp_path))


def test_an_adapter_to_be_converted_and_one_that_does_nothing_are_refused(tmp_path: Path) -> None:
    not_lora(tmp_path / "loha")
    with pytest.raises(ExistingAdapterError, match=r"is no LoRA but .*LOHA: its weights become a LoRA's on its base"):
        adapter_sizes(ExistingAdapter("theirs", tmp_path / "loha", 4))
    saved_adapter(tmp_path / "fresh", zero=True)
    assert len(adapter_sizes(theirs(tmp_path / "fresh")).layers) == 22
    with pytest.raises(ExistingAdapterError, match=r"nothing to measure: every update B A is zero"):
        read_factors(theirs(tmp_path / "fresh"))
