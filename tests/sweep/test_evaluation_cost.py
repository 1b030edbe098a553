"""What the dry run says of evaluating, and where it warns."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunedlora.config.fields import with_values
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.sweep.evaluation_cost import DataFacts, cost_of, evaluation_lines, generation_warning
from prunedlora.sweep.plan import print_plan
from prunedlora.sweep.preflight import preflight
from tests.tiny import decoder_tree, sweep_tree

FACTS = DataFacts(num_validation=500, train_tokens=20.0)
ANSWERS = {"evaluation.metric": "exact_match", "evaluation.max_new_tokens": 64}
LADDER: dict[str, Any] = {
    "pruning": {"schedule": {"name": "ladder", "rungs": {"parameters": [900, 600, 300, 100]}},
                "allocation": "global_per_parameter", "min_rank": 0},
    "evaluation.milestones": [],
    "training": {"num_steps": 800, "batch_size": 16},
}  # fmt: skip
CUTS = {"cuts": {"sizes": {"parameters": [500, 400, 200]}, "bases": ["svd", "whitened"]}}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return decoder_tree(folder, folder / "store")


def line_of(tree: dict[str, Any], values: dict[str, Any], num_documents: int = 0) -> str:
    trial: TrialConfig = trial_with(parse_sweep(tree, "test").trial, values)
    steps = trial.training.num_steps
    assert steps is not None
    (line,) = evaluation_lines({"": [cost_of(trial, steps, FACTS, num_documents)]})
    return line


def test_a_ladder_with_cuts_and_answers(tree: dict[str, Any]) -> None:
    assert line_of(tree, ANSWERS | LADDER | CUTS) == (
        "Evaluation: 5 rungs and 6 cuts a training: 5 × 500 + 6 × 200 to 700 examples for loss, at most 11 × 500 "
        "answers of up to 64 tokens, "
        "256 training examples passed for the metric of whitened cuts, beside 12,800 examples trained"
    )
    every = ANSWERS | LADDER | {"cuts": CUTS["cuts"] | {"at": "every_rung", "screen_examples": None}}
    assert line_of(tree, every | {"evaluation.generate": "all", "evaluation.max_examples": 50}) == (
        "Evaluation: 5 rungs and 30 cuts a training: 5 × 50 + 30 × 50 examples for loss, 35 × 50 "
        "answers of up to 64 tokens, "
        "1,280 training examples passed for the metric of whitened cuts, beside 12,800 examples trained"
    )


def test_a_cut_that_is_screened_on_all_examples_passes_them_once_where_its_loss_comes_first(
    tree: dict[str, Any],
) -> None:
    cuts = {"cuts": {"sizes": {"parameters": [200]}}, "evaluation.max_examples": 50}
    once = "Evaluation: 5 rungs and 1 cut a training: 5 × 50 + 1 × 50 examples for loss, "
    assert line_of(tree, LADDER | cuts).startswith(once)
    assert line_of(tree, ANSWERS | LADDER | cuts).startswith(once)
    assert "5 × 50 + 1 × 50 to 100 examples" in line_of(tree, ANSWERS | LADDER | cuts | {"evaluation.generate": "all"})
    more = cuts | {"evaluation.max_examples": 201, "cuts": {"sizes": {"parameters": [200]}, "bases": ["whitened"],
                   "calibration_examples": 17}}  # fmt: skip
    assert "1 × 200 to 401 examples for loss, 32 training examples passed" in line_of(tree, LADDER | more)


def test_documents_of_the_harness_count_for_every_candidate_that_it_measures(tree: dict[str, Any]) -> None:
    """The last of a training; all of them, cuts too, where they are chosen by it."""
    at_end = {"evaluation.harness_tasks": ["arc_easy"]}
    chosen = at_end | {"evaluation.metric": "harness/arc_easy/acc"}
    assert ", 1 × 300 documents of harness tasks, beside" in line_of(tree, LADDER | at_end, 300)
    assert ", 11 × 300 documents of harness tasks, 256 training" in line_of(tree, LADDER | CUTS | chosen, 300)
    assert ", 2 × 300 documents of harness tasks, beside" in line_of(tree, chosen, 300)


def test_without_answers_and_without_a_ladder(tree: dict[str, Any]) -> None:
    assert line_of(tree, {}) == (
        "Evaluation: 2 candidates a training: 2 × 500 examples for loss, beside 96 examples trained"
    )


def test_the_search_is_told_as_a_range_and_baselines_where_they_differ(tmp_path: Path) -> None:
    tree = sweep_tree(tmp_path, tmp_path / "store")
    tree["space"]["training.num_steps"] = {"int": [10, 30]}
    lora = {"adapter.method": "lora", "pruning": None}
    tree["baselines"] = [lora | {"evaluation.milestones": []}, lora | {"label": "long", "training.num_steps": 40}]
    found = preflight(parse_sweep(tree, "test"))
    assert found.evaluation == (
        "Evaluation: 2 candidates a training: 2 × 20 examples for loss, beside 80 to 240 examples trained",
        "Evaluation of lora: 1 candidate a training: 1 × 20 examples for loss, beside 96 examples trained",
        "Evaluation of long: 2 candidates a training: 2 × 20 examples for loss, beside 320 examples trained",
    )
    assert not any("outweigh" in warning for warning in found.warnings)


def test_baselines_alone_are_told_without_the_base(tree: dict[str, Any]) -> None:
    alone = tree | {"num_trials": 0, "space": {}, "baselines": [{"training.num_steps": 5, "label": "short"}]}
    (line,) = preflight(parse_sweep(alone, "test")).evaluation
    assert line.startswith("Evaluation of short: ")


def test_answers_that_outweigh_the_training_are_warned_of(tree: dict[str, Any]) -> None:
    """Tokens at most, answers × their longest, beside examples × their mean length; of the worst training."""
    trial = trial_with(parse_sweep(tree, "test").trial, ANSWERS | LADDER)
    few = cost_of(trial, 800, FACTS)
    assert few.tokens_generated == 5 * 500 * 64
    assert few.tokens_trained == 800 * 16 * 20.0
    assert generation_warning([few]) is None
    long = cost_of(trial_with(trial, CUTS), 800, FACTS)
    assert generation_warning([few, long]) == (
        "answers may outweigh the training: at most 352,000 tokens are generated (11 × 500 answers of up to 64) beside "
        "256,000 that are trained (12,800 examples of 20); set evaluation.max_examples or max_new_tokens lower, or "
        "fewer cuts, rungs or milestones"
    )
    every = cost_of(trial_with(trial, {**CUTS, "evaluation.generate": "all"}), 800, FACTS)
    assert (generation_warning([every]) or "").endswith(", or evaluation.generate to may_matter")


def test_what_is_not_trained_is_outweighed_by_nothing(tree: dict[str, Any]) -> None:
    """That there is such an adapter is not looked at here."""
    config = trial_with(parse_sweep(tree, "test").trial, ANSWERS | LADDER | CUTS)
    cost = cost_of(config, 800, FACTS)
    none = replace(cost, examples_trained=0, tokens_trained=0.0)
    assert none.tokens_generated > 0
    assert generation_warning([none]) is None
    assert generation_warning([none, cost]) == generation_warning([cost])
    (line,) = evaluation_lines({"": [none]})
    assert line.endswith(", beside 0 examples trained")


def test_the_plan_shows_both(tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    values = {f"trial.{path}": value for path, value in ANSWERS.items()}
    objectives = {"exact_match": "maximize", "adapter_params": "minimize"}
    asked = with_values(tree, {**values, "objectives": objectives, "trial.training.num_steps": 2})
    asked["trial"]["pruning"] = None
    asked["trial"]["adapter"]["method"] = "lora"
    config = parse_sweep(asked, "test")
    text = io.StringIO()
    print_plan(config, str(tmp_path / "store"), Console(file=text, width=80))
    shown = text.getvalue()
    assert (
        "\nEvaluation: 2 candidates a training: 2 × 8 examples for loss, 2 × 8 answers of up to 64 tokens, beside "
        "16 examples trained\n"
    ) in shown
    assert "\nWarning: answers may outweigh the training: up to 1,024 tokens are generated (2 × 8 answers" in shown
