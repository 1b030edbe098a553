"""What is printed of blind cuts: within 80 columns, with many layers, and that it is no accuracy; and the JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from prunedlora.adapters.existing import ExistingAdapter
from prunedlora.config.schedule import SizesConfig
from prunedlora.delivery.blind_cuts import BlindReport, describe_shrink
from prunedlora.delivery.blind_text import blind_json, change_text, print_blind
from tests.plain_adapters import change_weights, saved_adapter


def described(folder: Path, sizes: list[float], **fields: Any) -> BlindReport:
    saved_adapter(folder, **fields)
    return describe_shrink(ExistingAdapter("[red]theirs", folder), SizesConfig(kept=sizes))


def printed(report: BlindReport, width: int = 100, **options: Any) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        print_blind(report, console, **options)
    return capture.get()


def test_the_whole_comes_first_then_kinds_of_layers_and_that_it_is_no_accuracy(tmp_path: Path) -> None:
    report = described(tmp_path, [0.5, 0.1], modules_to_save=["score"])
    lines = printed(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("[red]theirs: 22 layers of rank 6, 3,738 parameters, 14.6 KiB; cut by its singular")
    whole = next(line for line in lines if line.split()[:2] == ["0.5", "shared"])
    shared = next(each for each in report.cuts if each.cut.allocation == "global_per_parameter")
    assert whole.split()[2:4] == [f"{shared.params:,}", f"{shared.bytes / 1024:.3g}"]
    assert change_text(shared.change) in whole
    assert "Not with one rank: kept 0.1 is below rank 1 of every layer" in " ".join(lines)
    kinds = [line.split()[:2] for line in lines if line.startswith("*.")]
    assert kinds == [["*.query", "(11)"], ["*.up", "(11)"]] * 2
    text = " ".join(" ".join(lines).split())
    assert "score.bias, score.weight (33 parameters): trained whole (modules_to_save), and no cut touches it" in text
    assert "is no accuracy" in text
    assert "To know it: prunedlora shrink [red]theirs --data FILE" in text


@pytest.mark.parametrize(("width", "num_tables"), [(200, 2), (100, 3), (80, 4)])
def test_all_layers_and_many_sizes_are_whole_tables(tmp_path: Path, width: int, num_tables: int) -> None:
    """Cells are neither cut nor folded; what has no room goes into further tables."""
    report = described(tmp_path, [0.95, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2])
    text = printed(report, width, all_layers=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace("modules_to_save", "")
    for layer in report.layers:
        assert text.count(f"\n{layer.name} ") == num_tables
    for each in report.cuts:
        cells = zip(each.ranks, each.changes, strict=True)
        assert all(f" {rank}: {change_text(change)}" in text for rank, change in cells)
    assert "--layers" not in text


def test_layers_that_change_nothing_and_weights_of_the_base_are_told(tmp_path: Path) -> None:
    saved_adapter(tmp_path)
    change_weights(tmp_path, blocks__0__up__lora_B__weight=torch.zeros(23, 6), tokens__weight=torch.ones(7, 10))
    report = describe_shrink(ExistingAdapter("theirs", tmp_path), SizesConfig(mean_rank=[2]))
    text = " ".join(printed(report, all_layers=True).split())
    assert "1 of 22 layers change nothing (their update is zero): –." in text
    assert "tokens.weight (70 parameters): saved beside the factors" in text
    assert "2: –" in text


def test_the_plain_data_has_every_figure(tmp_path: Path) -> None:
    report = described(tmp_path, [0.5, 0.1])
    tree = json.loads(json.dumps(blind_json(report), allow_nan=False))
    assert tree["adapter_params"] == report.params == 3738
    assert [(each["allocation"], each["size"]) for each in tree["cuts"]] == [
        ("uniform", 0.5), ("global_per_parameter", 0.5), ("global_per_parameter", 0.1)
    ]  # fmt: skip
    for entry, each in zip(tree["cuts"], report.cuts, strict=True):
        assert entry["relative_change"] == each.change
        assert [layer["rank"] for layer in entry["layers"].values()] == list(each.ranks)
        assert list(entry["layers"]) == list(tree["layers"]) == [layer.name for layer in report.layers]
    assert tree["left_out"][0]["reason"].startswith("kept 0.1 is below rank 1 of every layer")


@pytest.mark.parametrize(
    ("change", "text"),
    [(None, "–"), (0.0, "0 %"), (4e-5, "<0.01 %"), (0.004, "0.40 %"), (0.0456, "4.6 %"), (1.0, "100.0 %")],
)
def test_little_is_told_from_nothing(change: float | None, text: str) -> None:
    assert change_text(change) == text
