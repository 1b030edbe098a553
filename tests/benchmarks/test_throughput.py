"""The benchmark of what a step saves counts what it says, and its variants compute the same."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from prunedlora.benchmarks.command import app
from prunedlora.benchmarks.product.throughput import made_up_lengths, token_positions
from tests.tiny import decoder_tree

TINY = ["--batch-size", "4", "--micro-batch-size", "2", "--vocabulary", "50", "--width", "8", "--num-rounds", "1"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_token_positions_by_hand() -> None:
    counts = token_positions([1, 9, 2, 8, 5, 5, 5, 5, 7], batch_size=4, micro_batch_size=2)
    assert counts["as_drawn"] == (2 * 9 + 2 * 8 + 20) / 40
    assert counts["ordered"] == (2 * 9 + 2 * 2 + 20) / 40
    assert counts["ratio"] == counts["as_drawn"] / counts["ordered"]
    assert (counts["passes_by_examples"], counts["passes_by_tokens"]) == (4, 2 + 2)  # 18 tokens: 9 8 | 2 1, 5 5 5 | 5
    with pytest.raises(ValueError, match="3 examples do not fill one step of 4"):
        token_positions([1, 2, 3], 4, 2)


def test_ordering_saves_two_fifths_of_the_positions_of_maths_and_more_of_instructions() -> None:
    ratios = [token_positions(made_up_lengths(4096, spread), 128, 8)["ratio"] for spread in (0.45, 0.8)]
    assert ratios == [pytest.approx(1.65, abs=0.1), pytest.approx(2.2, abs=0.2)]


def test_throughput_ends_with_one_line_of_json(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(decoder_tree(tmp_path / "tiny", "unused")), encoding="utf-8")
    result = CliRunner().invoke(app, ["throughput", *TINY, "--sweep", str(file)])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["token_positions"].keys() == {"math", "instructions", "own"}
    assert all(counts["ratio"] >= 1 for counts in figures["token_positions"].values())
    assert figures["head"]["whole"] > 0
    assert 0 < figures["head"]["share_of_positions"] < 0.5
    assert figures["optimizer"]["fused"] > 0
    assert (figures["batch_size"], figures["vocabulary"], figures["device"]) == (4, 50, "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--micro-batch-size", "5"], "--micro-batch-size 5 is above --batch-size 4"),
        (["--set", "trial.seed=1"], "it has no use without"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["throughput", *TINY, *options])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
