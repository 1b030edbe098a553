"""What is said of an adapter without a model: against the formed updates, PEFT's own conversion, and a trial's cuts."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import convert_to_lora
from torch import Tensor

from prunedlora.adapters.existing import ExistingAdapter, ExistingAdapterError
from prunedlora.adapters.file_layers import read_factors
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.schedule import SizesConfig
from prunedlora.config.trial import trial_with
from prunedlora.delivery.blind_cuts import BlindReport, NothingToCutError, decomposed, describe_shrink
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.plain_adapters import change_weights, saved_adapter, updates
from tests.tiny import sweep_tree

SIZES: dict[str, list[Any]] = {"kept": [0.6, 0.35, 0.18], "mean_rank": [5, 2, 1], "parameters": [3000, 1500, 700]}
FORMS: dict[str, dict[str, Any]] = {
    "one rank": {},
    "rslora with patterns": {
        "use_rslora": True, "rank_pattern": {"blocks.2.query": 3, "blocks.10.up": 8}, "alpha_pattern": {"query": 2}
    },
}  # fmt: skip


def described(folder: Path, **sizes: Any) -> BlindReport:
    return describe_shrink(ExistingAdapter("theirs", folder), SizesConfig(**sizes))


def cut_updates(folder: Path, ranks: tuple[int, ...]) -> dict[str, Tensor]:
    """The updates of the factors that the cut leaves, formed."""
    sizes, factors, _ = read_factors(ExistingAdapter("theirs", folder))
    left = decomposed(sizes, factors).cut(ranks)
    return {
        layer.name: layer.scaling * B.double() @ A.double() for layer, (A, B) in zip(sizes.layers, left, strict=True)
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", SIZES)
def test_changes_are_those_of_the_formed_updates(unit: str, form: str, tmp_path: Path) -> None:
    """Oracle: torch's SVD of every update, made whole; and the factors that the cut leaves."""
    whole = updates(saved_adapter(tmp_path, **FORMS[form]))
    report = described(tmp_path, **{unit: SIZES[unit]})
    assert len(report.cuts) == 6
    assert not report.left_out
    for each in report.cuts:
        left = cut_updates(tmp_path, each.ranks)
        if each.cut.allocation == "global_per_parameter":
            worth = {
                layer.name: torch.linalg.svdvals(whole[layer.name])[: layer.rank] ** 2 / sum(whole[layer.name].shape)
                for layer in report.layers
            }
            parts = [(worth[layer.name], rank) for layer, rank in zip(report.layers, each.ranks, strict=True)]
            dearest_gone = max(float(own[rank]) for own, rank in parts if rank < len(own))
            assert dearest_gone < min(float(own[rank - 1]) for own, rank in parts if rank)
        gone = total = 0.0
        for layer, rank, change in zip(report.layers, each.ranks, each.changes, strict=True):
            sigma = torch.linalg.svdvals(whole[layer.name])
            assert layer.norm == pytest.approx(float(sigma.norm()), rel=1e-12)
            assert layer.largest == pytest.approx(float(sigma[0]), rel=1e-12)
            lost = float(sigma[rank:].norm())
            assert change == pytest.approx(lost / layer.norm, rel=1e-10, abs=1e-12)
            actual = float((whole[layer.name] - left[layer.name]).norm())
            assert change == pytest.approx(actual / layer.norm, rel=1e-5, abs=1e-6)  # factors are float32
            gone, total = gone + actual**2, total + layer.norm**2
        assert each.change == pytest.approx((gone / total) ** 0.5, rel=1e-5)
        assert each.params == sum(
            rank * sum(whole[layer.name].shape) for layer, rank in zip(report.layers, each.ranks, strict=True)
        )
        assert each.bytes == 4 * each.params


def test_one_rank_is_what_peft_converts_to(tmp_path: Path) -> None:
    """Oracle: PEFT's convert_to_lora at the same rank, the update layer by layer."""
    model = saved_adapter(tmp_path, **FORMS["rslora with patterns"])
    for rank in (1, 2):
        (cut,) = (c for c in described(tmp_path, mean_rank=[rank]).cuts if c.cut.allocation == "uniform")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, theirs = convert_to_lora(model, rank)
        ours = cut_updates(tmp_path, cut.ranks)
        assert set(cut.ranks) == {rank}
        for name, update in ours.items():
            A, B = (theirs[f"base_model.model.{name}.lora_{factor}.weight"].double() for factor in "AB")
            assert float((update - B @ A).norm()) <= 1e-5 * float(update.norm())


def test_a_trial_cuts_to_the_same_updates(tmp_path: Path) -> None:
    """Oracle: the product's free cuts at the end of a training; what is cut blind is the adapter that it ended with."""
    tree = sweep_tree(tmp_path, "unused")
    sizes, allocations = {"mean_rank": [3, 1]}, ["uniform", "global_per_parameter"]
    cuts = {"sizes": sizes, "allocations": allocations, "bases": ["svd"], "screen_examples": None}
    values = {"adapter.method": "lora", "pruning": None, "evaluation.milestones": [], "cuts": cuts}
    trial = trial_with(parse_sweep(tree, "test").trial, values)
    store, key, cpu = Store(str(tmp_path / "store")), trial_key(trial), torch.device("cpu")
    store.create_or_open(tree)
    execute_trial(
        trial, key, store=store, assets=AssetCache(cpu), workers=Workers(0, 1, cpu), epoch=1, max_attempts=9,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record = store.read_record(key)
    assert record is not None
    folders = {each.cut: tmp_path / "store" / "trials" / key / str(each.adapter_path) for each in record.candidates}
    report = described(folders[None], **sizes)
    assert {name.partition(".")[0] for name in report.heads} == {"bert", "classifier"}
    for each in report.cuts:
        blind, written = cut_updates(folders[None], each.ranks), formed(folders[each.cut])
        assert {name for name, update in blind.items() if update.any()} == written.keys()
        for name, update in written.items():
            assert float((blind[name] - update).norm()) <= 1e-5 * float(update.norm())
    assert len(report.cuts) == len(folders) - 1 == 4


def formed(folder: Path) -> dict[str, Tensor]:
    sizes, factors, _ = read_factors(ExistingAdapter("cut", folder))
    return {
        layer.name: layer.scaling * B.double() @ A.double() for layer, (A, B) in zip(sizes.layers, factors, strict=True)
    }


def test_components_for_90_and_99_percent_are_counted_by_hand(tmp_path: Path) -> None:
    """σ² of 80, 15, 4.5, .5 of 100."""
    saved_adapter(tmp_path, r=4, lora_alpha=4)
    A, B = torch.eye(10)[:4], torch.zeros(10, 4)
    B[:4, :4] = torch.tensor([15.0, 80.0, 0.5, 4.5]).sqrt().diag()
    change_weights(tmp_path, blocks__0__query__lora_A__weight=A, blocks__0__query__lora_B__weight=B)
    first = described(tmp_path, kept=[0.5]).layers[0]
    assert (first.name, first.rank_90, first.rank_99) == ("blocks.0.query", 2, 3)
    assert (first.norm, first.largest) == pytest.approx((10.0, 80.0**0.5), rel=1e-6)


def test_a_layer_that_does_nothing_has_no_change_and_goes_first(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    change_weights(tmp_path, blocks__0__query__lora_B__weight=torch.zeros(10, 6))
    report = described(tmp_path, kept=[0.9, 0.5])
    assert (report.layers[0].norm, report.layers[0].rank_90) == (0.0, 0)
    shared = [each for each in report.cuts if each.cut.allocation == "global_per_parameter"]
    assert [each.ranks[0] for each in shared] == [0, 0]
    assert shared[0].num_vanished == 1
    assert shared[0].changes[0] is None
    assert all(change is not None for change in shared[0].changes[1:])


def test_no_layer_falls_below_min_rank(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    sizes = SizesConfig(kept=[0.2])
    report = describe_shrink(ExistingAdapter("theirs", tmp_path), sizes, min_rank=1)
    assert all(min(each.ranks) == 1 for each in report.cuts)
    assert min(described(tmp_path, kept=[0.2]).cuts[1].ranks) == 0


def test_a_size_that_one_rank_cannot_make_is_left_out_and_one_that_none_can_make_is_refused(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    report = described(tmp_path, mean_rank=[2, 0.5])
    assert [(each.cut.allocation, each.cut.size) for each in report.cuts] == [
        ("uniform", 2.0), ("global_per_parameter", 2.0), ("global_per_parameter", 0.5),
    ]  # fmt: skip
    (left,) = report.left_out
    assert left.reason == "mean_rank 0.5: a mean_rank of allocation 'uniform' is every layer's and must be whole"
    for sizes, message in (
        ({"mean_rank": [6]}, r"mean_rank 6 removes nothing: the adapter has .*; take less"),
        ({"parameters": [3000, 3]}, r"parameters 3 is below what a component of the widest layer takes; take at least"),
    ):
        with pytest.raises(NothingToCutError, match=f"^adapter 'theirs': {message}"):
            described(tmp_path, **sizes)


def test_an_adapter_that_does_nothing_is_told_so(tmp_path: Path) -> None:
    saved_adapter(tmp_path, zero=True)
    with pytest.raises(ExistingAdapterError, match=r"nothing to measure"):
        described(tmp_path, kept=[0.5])
