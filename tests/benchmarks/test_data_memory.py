"""What tokenised data cost, measured on little; the whole in processes of their own."""

import tempfile
from pathlib import Path

import pytest

from prunedlora.benchmarks.product.data_memory import (
    batch_seconds,
    data_costs,
    files_memory,
    lists_memory,
    made_up_data,
)
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from tests.tiny import decoder_tree, sweep_tree


@pytest.fixture(params=[sweep_tree, decoder_tree])
def trial(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialConfig:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return parse_sweep(request.param(tmp_path, tmp_path / "store"), "test").trial


def test_files_leave_the_collector_less_and_tokens_are_counted_alike(trial: TrialConfig, tmp_path: Path) -> None:
    made_up = made_up_data(trial, tmp_path, 100_000)
    lists, files = lists_memory(made_up), files_memory(made_up)
    assert lists["num_tokens"] == files["num_tokens"] > 0
    assert lists["collected_objects"] > 2000 > 500 > files["collected_objects"]
    step = batch_seconds(made_up, num_steps=4, batch_size=8)
    assert step["ratio"] == step["milliseconds"]["files"] / step["milliseconds"]["lists"] > 0


@pytest.mark.slow
def test_each_way_has_a_process_of_its_own(trial: TrialConfig) -> None:
    figures = data_costs(trial, num_tokens=300_000, num_steps=2, batch_size=8)
    assert figures.keys() == {"lists", "files_written", "files_opened", "step"}
    assert len({figures[name]["num_tokens"] for name in ("lists", "files_written", "files_opened")}) == 1
    assert figures["files_opened"]["anonymous_bytes_per_token"] < figures["lists"]["anonymous_bytes_per_token"] / 2
