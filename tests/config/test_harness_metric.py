"""A figure of lm-evaluation-harness as the metric: what a configuration says of it, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.fields import with_values
from prunedlora.config.load import ConfigError, load_sweep, parse_sweep
from prunedlora.config.metric_names import harness_metric
from prunedlora.config.sweep import SweepConfig
from tests.config.test_harness_tasks import TREE

EASY = "harness/arc_easy/acc_norm"
FILTERED = "harness/gsm8k/exact_match,strict-match"


def sweep_with(metric: str, **evaluation: Any) -> SweepConfig:
    values = {f"trial.evaluation.{name}": value for name, value in evaluation.items()}
    objectives = {"objectives": {metric: "maximize", "adapter_params": "minimize"}}
    return parse_sweep(with_values(TREE, {"trial.evaluation.metric": metric, **values}) | objectives, "test")


@pytest.mark.parametrize(
    ("metric", "tasks"), [(EASY, ["arc_easy"]), (FILTERED, ["wikitext", "gsm8k"]), (EASY, ["./tasks/mine"])]
)
def test_the_quality_is_the_figure_and_examples_are_scored_by_their_loss(metric: str, tasks: list[str]) -> None:
    """Whether a file or folder holds the task is known once it is loaded."""
    config = sweep_with(metric, harness_tasks=tasks)
    evaluation = config.trial.evaluation
    assert (config.quality, evaluation.figure, evaluation.task_metric) == (metric, metric, "loss")
    assert evaluation.chosen_by_harness
    assert config.trial.generate is None


def test_names() -> None:
    assert harness_metric(FILTERED) == ("gsm8k", "exact_match,strict-match")
    assert harness_metric("harness/a/b/acc") == ("a/b", "acc")
    assert [harness_metric(name) for name in ("loss", "harness/", "harness/acc", "harness/x/")] == [None] * 4


@pytest.mark.parametrize(
    ("metric", "evaluation", "message"),
    [
        (EASY, {}, f"'{EASY}' needs the task 'arc_easy' in evaluation.harness_tasks, which is not given"),
        (EASY, {"harness_tasks": ["gsm8k", "mmlu"]}, "'arc_easy' in evaluation.harness_tasks, which names gsm8k, mmlu"),
        ("harness/acc", {"harness_tasks": ["acc"]}, "'harness/acc' must be harness/<task>/<metric>, as harness/arc_e"),
        (EASY, {"harness_tasks": ["arc_easy"], "max_new_tokens": 4}, "its task says how long an answer may be; remove"),
        (EASY, {"harness_tasks": ["arc_easy"], "stop": ["\n"]}, "evaluation.stop is without effect for metric"),
        (
            EASY,
            {"harness_tasks": ["arc_easy"], "generate": "may_matter"},
            "every candidate is measured, since the loss",
        ),
    ],
)
def test_refused(metric: str, evaluation: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep_with(metric, **evaluation)
    assert message in str(caught.value)


def test_a_quality_is_maximised() -> None:
    tree = with_values(TREE, {"trial.evaluation.metric": EASY, "trial.evaluation.harness_tasks": ["arc_easy"]})
    with pytest.raises(ConfigError, match="must be maximized, not minimized"):
        parse_sweep({**tree, "objectives": {EASY: "minimize", "adapter_params": "minimize"}}, "test")


def test_a_classifier_has_none() -> None:
    changes = [f"trial.evaluation.metric={EASY}", "trial.evaluation.harness_tasks=[arc_easy]",
               f"objectives={{{EASY}: maximize, adapter_params: minimize}}"]  # fmt: skip
    with pytest.raises(ConfigError, match=rf"metric '{EASY}' needs a causal language model \(task generation\)"):
        load_sweep(Path("search_spaces/quickstart.yaml"), changes)


def test_a_chat_template_and_a_system_instruction_are_of_the_trial() -> None:
    harness = {"apply_chat_template": True, "system_instruction": "Be brief."}
    found = sweep_with(EASY, harness_tasks=["arc_easy"], harness=harness).trial.evaluation.harness
    assert found is not None
    assert (found.apply_chat_template, found.system_instruction) == (True, "Be brief.")
    with pytest.raises(ConfigError, match="system_instruction: String should have at least 1 character"):
        sweep_with(EASY, harness_tasks=["arc_easy"], harness={"system_instruction": ""})


def test_a_function_in_a_folder_called_harness_is_one_s_own() -> None:
    tree = with_values(TREE, {"trial.evaluation.metric": "harness/m.py:score", "trial.evaluation.max_new_tokens": 4})
    evaluation = parse_sweep({**tree, "objectives": {"score": "maximize", "adapter_params": "minimize"}}, "t").trial
    assert (evaluation.evaluation.chosen_by_harness, evaluation.evaluation.figure) == (False, "score")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"evaluation.harness.num_fewshot": {"choice": [0, 2]}}},
         "space at evaluation.harness.num_fewshot=2: evaluation.harness.num_fewshot 2 is another than the base's 0"),
        ({"baselines": [{"evaluation.harness_tasks": ["arc_easy", "gsm8k"]}]},
         "baselines[0]: evaluation.harness_tasks ['arc_easy', 'gsm8k'] is another than the base's ['arc_easy']"),
    ],
)  # fmt: skip
def test_a_quality_is_measured_alike_in_all_trials(changes: dict[str, Any], message: str) -> None:
    values = {"metric": EASY, "harness_tasks": ["arc_easy"], "harness": {"num_fewshot": 0}}
    tree = with_values(TREE, {f"trial.evaluation.{name}": value for name, value in values.items()})
    tree |= {"objectives": {EASY: "maximize", "adapter_params": "minimize"}}
    with pytest.raises(ConfigError) as caught:
        parse_sweep(tree | changes, "test")
    assert message in str(caught.value)
    assert "would be another measurement under its one name" in str(caught.value)
    parse_sweep(tree | {"baselines": [{"evaluation.harness.batch_size": 2}]}, "test")
    tree["objectives"] = {"loss": "minimize", "adapter_params": "minimize"}  # measured alike whatever else is asked
    parse_sweep(tree | changes, "test")
