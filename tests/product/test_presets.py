"""Sweep files that people copy: each passes what a dry run checks, and is the method that it says it is."""

import json
from pathlib import Path

import pytest

from prunedlora.config.load import load_sweep
from prunedlora.config.methods import section_fields
from prunedlora.config.sweep import SweepConfig
from prunedlora.pruning.ladder import rungs_of
from prunedlora.sweep.preflight import preflight
from prunedlora.tasks.metrics.own_score import OwnScore
from prunedlora.trial.assets import load_examples_of
from tests import support_chats
from tests.product.conftest import ROOT
from tests.tiny import make_decoder

FORMS = ["lora_squeeze_post", "lora_squeeze_cont", "lora_squeeze_in"]


def load(name: str) -> SweepConfig:
    return load_sweep(Path(ROOT / "search_spaces" / f"{name}.yaml"))


@pytest.mark.parametrize("name", [*FORMS, "compare_quickstart"])
def test_a_dry_run_finds_nothing_wrong(name: str) -> None:
    preflight(load(name))


def test_a_dry_run_of_the_ladder_that_generates_finds_nothing_wrong(tmp_path: Path) -> None:
    """On a small model of the same kind: the file's own comes with a package that no extra brings."""
    model = f"trial.model={{name: {make_decoder(tmp_path / 'model')}}}"
    preflight(load_sweep(ROOT / "search_spaces" / "smollm2_chain_sum_ladder.yaml", [model]))


def test_the_support_desks_conversations_are_those_that_their_generator_makes() -> None:
    rows = [json.loads(line) for line in support_chats.FILE.read_text("utf-8").splitlines()]
    assert rows == support_chats.chats()
    assert support_chats.FILE.stat().st_size <= 120_000


def test_the_support_desks_sweep_reads_its_conversations_and_scores_answers_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    trial = load("smollm2_chat_ladder").trial
    splits = load_examples_of(trial)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (200, 100, 100)
    assert splits.num_duplicates_removed == {"train": 0, "validation": 0, "test": 0}
    example = splits.validation[0]
    assert example.conversation is not None
    assert example.conversation.messages[0]["content"].endswith("Answer: team, urgency, order.")
    score, (team, urgency, _) = OwnScore(trial.evaluation.metric), example.target.split(", ")
    assert [score(text, example) for text in (example.target, f"{team}, {urgency}, 0", team, "")] == [
        1.0,
        pytest.approx(2 / 3),
        0.0,
        0.0,
    ]


@pytest.mark.needs("smollm2")
def test_a_dry_run_of_the_support_desks_sweep_finds_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    preflight(load("smollm2_chat_ladder"))


@pytest.mark.parametrize("name", FORMS)
def test_lora_squeeze_cuts_every_layer_to_one_rank_by_the_product_alone(name: str) -> None:
    trial = load(name).trial
    assert trial.adapter is not None
    assert trial.adapter.alpha / trial.adapter.initial_rank == 0.5
    assert not trial.adapter.use_rslora
    if trial.pruning is None:
        assert trial.svd is not None
        assert trial.svd.ranks[-1] == 8
    else:
        assert (trial.pruning.basis, trial.pruning.allocation, trial.pruning.rate_growth) == ("svd", "uniform", 0)
        assert trial.pruning.ladder is not None
        assert trial.pruning.ladder.rungs.sizes[-1] == 8


def test_in_squeeze_halves_the_rank_after_equal_shares_of_the_steps() -> None:
    trial = load("lora_squeeze_in").trial
    assert trial.pruning is not None
    ladder = section_fields(trial.pruning)["ladder"]
    assert trial.training.num_steps is not None
    assert [rung.end - rung.begin for rung in rungs_of(ladder, 4000)] == [1000] * 4
    assert (64, *ladder.sizes) == (64, 32, 16, 8)
    assert (ladder.rate, ladder.optimizer_state, ladder.removal) == ("continue", "new", "one_shot")


def test_the_quickstarts_reference_is_as_long_as_its_ladders_and_scaled_alike() -> None:
    quickstart, reference = load("quickstart"), load("compare_quickstart")
    assert reference.trial.training == quickstart.trial.training
    assert reference.trial.data == quickstart.trial.data
    assert reference.trial.evaluation == quickstart.trial.evaluation
    (baseline,) = quickstart.baseline_trials()
    assert baseline.adapter == reference.baseline_trials()[0].adapter
