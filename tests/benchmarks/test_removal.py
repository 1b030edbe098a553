"""The benchmark of removals: every criterion and basis is measured, on a trained adapter that is put back each time."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from prunedlora.benchmarks.removal import LEVELS, NoVariantError, removal_costs, variants
from prunedlora.config.load import parse_sweep
from prunedlora.registry import names
from tests.tiny import sweep_tree


def test_every_criterion_and_basis_is_measured(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    base = parse_sweep(sweep_tree(tmp_path / "tiny", "unused"), "test").trial
    text = io.StringIO()
    figures = removal_costs(
        base,
        rank=8,
        num_steps=40,
        num_seeds=2,
        num_batches=4,
        num_single_layers=1,
        only=["*"],
        device=torch.device("cpu"),
        console=Console(file=text),
    )
    measured = {name.split("/")[0] for name in variants()}
    assert measured == {*names("criterion"), "svd", "whitened"}
    for name in variants():
        assert figures[name].keys() == {f"{level:g}" for level in LEVELS}
        assert all(error is not None and error >= 0 for _, error in figures[name].values())
    # Recovery makes a difference.
    assert figures["gradient/token B 0"] != figures["gradient/token B 1"]
    assert figures["spearman"].keys() == {name for name in variants() if not name.startswith(("svd", "whitened"))}
    assert "seed 1: held-out loss" in text.getvalue()


def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    base = parse_sweep(sweep_tree(tmp_path / "tiny", "unused"), "test").trial
    with pytest.raises(NoVariantError, match="--only 'gradiant/\\*' fits none of: activation/no recovery, "):
        removal_costs(
            base, rank=8, num_steps=1, num_seeds=1, num_batches=1, num_single_layers=0, only=["gradiant/*"],
            device=torch.device("cpu"), console=Console(),
        )  # fmt: skip
