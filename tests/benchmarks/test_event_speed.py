"""The benchmark of an event compares two algorithms that agree; what it times is not judged here."""

import json

import torch
from typer.testing import CliRunner

from prunedlora.benchmarks.command import app
from prunedlora.benchmarks.product.event_speed import event_speed


def test_plain_and_batched_scores_agree():
    figures = event_speed(num_layers=3, rank=12, width=20, num_events=2, device=torch.device("cpu"))
    assert figures["max_relative_score_difference"] < 1e-5
    assert set(figures["event_seconds"]) == {"plain", "both", "B"}
    assert figures["speedup"] == figures["event_seconds"]["plain"] / figures["event_seconds"]["both"]


def test_the_last_line_is_one_json_object():
    sizes = ["--num-layers", "2", "--rank", "8", "--width", "10", "--num-events", "1"]
    result = CliRunner().invoke(app, ["event", *sizes])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output.splitlines()[-1])["num_layers"] == 2
