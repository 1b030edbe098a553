"""The benchmark of removals: every criterion and basis is measured, on a trained adapter that is put back each time."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.benchmarks.product.removal import LEVELS, NoVariantError, UnscaledLossError, removal_costs, variants
from prunedlora.benchmarks.product.single_removals import recovered_costs
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.pruning.pruner import Pruner
from prunedlora.registry import names
from tests.tiny import sweep_tree


def costs(folder: Path, only: list[str], text: io.StringIO, dtype: str = "auto") -> dict[str, Any]:
    torch.set_num_threads(1)
    return removal_costs(
        trial_with(parse_sweep(sweep_tree(folder / "tiny", "unused"), "test").trial, {"model.dtype": dtype}),
        rank=8,
        num_steps=40,
        num_seeds=2,
        num_batches=4,
        num_single_layers=1,
        only=only,
        device=torch.device("cpu"),
        console=Console(file=text),
    )


@pytest.mark.slow
def test_every_criterion_and_basis_is_measured_on_the_adapter_as_it_was(tmp_path: Path) -> None:
    text = io.StringIO()
    figures = costs(tmp_path, ["*"], text)
    measured = {name.split("/")[0] for name in variants()}
    assert measured == {*names("criterion"), "svd", "whitened"}
    for name in variants():
        assert figures[name].keys() == {f"{level:g}" for level in LEVELS}
    # Whatever was removed for others before is back: each variant by itself finds the same.
    for name in ("magnitude/no recovery", "gradient/token B 1", "whitened/"):
        alone = costs(tmp_path, [name], io.StringIO())
        assert alone[name] == figures[name]
        for scored, correlation in alone["spearman"].items():
            assert correlation == figures["spearman"][scored]
    # What is known by other means: principal components of the product cost less than components by chance, more
    # costs more, recovery helps the criterion that it minimises.
    for basis in ("svd/", "whitened/"):
        assert all(figures[basis][level][0] < figures["random/no recovery"][level][0] for level in figures[basis])
    assert figures["random/no recovery"]["0.25"][0] < figures["random/no recovery"]["0.875"][0]
    assert figures["gradient/token B 1"]["0.5"][0] < figures["gradient/token B 0"]["0.5"][0]
    assert "seed 1: held-out loss" in text.getvalue()


def test_scores_are_correlated_with_brute_force(tmp_path: Path) -> None:
    """By what each scores: the first-order term orders removals as they are, where the gradient is not zero yet."""
    correlations = costs(tmp_path, ["taylor/*", "gradient/token B ?", "svd/"], io.StringIO())["spearman"]
    assert {name: set(ways) for name, ways in correlations.items()} == {
        "taylor": {"plain"},
        "gradient/token B": {"plain", "recovered"},
    }
    assert correlations["taylor"]["plain"][0] > 0.7


def test_the_recovered_cost_of_one_component_is_that_of_an_event_that_removes_it() -> None:
    torch.manual_seed(0)
    model = attach(nn.Sequential(nn.Linear(5, 3)), AdapterSettings(4, 4.0, False, 0.0, ["0"], []), "default", 0)
    (layer,) = adapted_layers(model, "default")
    layer.B.data.normal_()
    settings = replace(variants()["gradient/token B 1"], target_sparsity=None, target_rank=3)
    pruner = Pruner(settings, [layer])
    for _ in range(3):
        model(torch.randn(7, 5)).square().sum().backward()
        pruner.observe()
    B = layer.B.detach().clone()
    alone = recovered_costs(layer, settings, pruner.state_dict(), lambda: float(layer.B.detach().norm()), 0.0)
    assert torch.equal(layer.B, B)
    event = pruner.step(1, 1.0, None)
    assert event is not None
    ((removed,),) = event.removed.values()
    assert alone[removed] == pytest.approx(float(layer.B.detach().norm()), rel=1e-6)
    assert alone[removed] != pytest.approx(float(B[:, [j for j in range(4) if j != removed]].norm()), rel=1e-3)


def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    base = parse_sweep(sweep_tree(tmp_path / "tiny", "unused"), "test").trial
    with pytest.raises(NoVariantError, match="--only 'gradiant/\\*' fits none of: activation/no recovery, "):
        removal_costs(
            base, rank=8, num_steps=1, num_seeds=1, num_batches=1, num_single_layers=0, only=["gradiant/*"],
            device=torch.device("cpu"), console=Console(),
        )  # fmt: skip


def test_a_model_in_float16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnscaledLossError, match=r"model\.dtype 'float16': .* set float32 or bfloat16"):
        costs(tmp_path, ["svd/"], io.StringIO(), "float16")
