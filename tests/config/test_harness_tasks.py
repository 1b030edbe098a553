"""Harness tasks in a configuration: what is refused, and what of their files enters a trial's key."""

import importlib.metadata
import py_compile
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.fields import with_values
from prunedlora.config.harness_tasks import is_path, task_files
from prunedlora.config.identity import LocationError, contents, trial_key
from prunedlora.config.load import ConfigError, load_sweep, parse_harness, parse_sweep
from prunedlora.config.trial import TrialConfig

TREE: dict[str, Any] = {
    "name": "s",
    "storage": "runs/s",
    "objectives": {"loss": "minimize", "adapter_params": "minimize"},
    "num_trials": 4,
    "trial": {
        "model": {"name": "some/model"},
        "data": {
            "task": "generation",
            "train": {"name": "some/data", "prompt": "{text}", "target": "{label}"},
            "num_validation": 10,
            "num_test": 10,
        },
        "adapter": {"method": "lora", "initial_rank": 8, "alpha": 8},
        "optimizer": {"learning_rate": 1e-3},
        "training": {"num_steps": 20, "batch_size": 4},
        "evaluation": {"metric": "loss"},
    },
    "space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}


def trial_with(**evaluation: Any) -> TrialConfig:
    values = {f"trial.evaluation.{name}": value for name, value in evaluation.items()}
    return parse_sweep(with_values(TREE, values), "test").trial


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"harness": {"limit": 10}}, "harness has no effect without harness_tasks"),
        ({"harness_tasks": []}, "harness_tasks: List should have at least 1 item"),
        ({"harness_tasks": ["a", "a"]}, "harness_tasks names a task twice: a, a"),
        ({"harness_tasks": ["a"], "harness": {"limit": 1.5}}, "1.5 is neither a whole number from 1 nor a share below"),
        ({"harness_tasks": ["a"], "harness": {"num_fewshots": 1}}, "unknown field; did you mean 'num_fewshot'?"),
    ],
)
def test_refused(evaluation: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trial_with(**evaluation)
    assert message in str(caught.value)


def test_a_classifier_has_none() -> None:
    with pytest.raises(ConfigError, match=r"harness_tasks needs a causal language model \(task generation\); that of"):
        load_sweep(Path("search_spaces/quickstart.yaml"), ["trial.evaluation.harness_tasks=[arc_easy]"])


def test_a_figure_that_is_not_the_metric_is_no_objective() -> None:
    """Milestones have none."""
    with pytest.raises(ConfigError, match="harness/arc_easy/acc"):
        parse_sweep({**TREE, "objectives": {"harness/arc_easy/acc": "maximize", "adapter_params": "minimize"}}, "test")


def test_options_of_the_command_line() -> None:
    given = {"num_fewshot": None, "limit": "0.5", "batch_size": None, "unsafe_code": False}
    assert parse_harness(given) == HarnessConfig(limit=0.5)
    with pytest.raises(ConfigError, match="limit: 0 is neither"):
        parse_harness({"limit": "0"})


def test_names_and_paths() -> None:
    assert [is_path(name) for name in ("arc_easy", "x.yaml", "tasks/", "longproc_html_to_tsv_0.5k")] == [
        False, True, True, False
    ]  # fmt: skip


def test_what_loading_leaves_in_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("task: a\n")
    (tmp_path / "utils.py").write_text("def text(doc): return doc\n")
    before = task_files(tmp_path)
    py_compile.compile(str(tmp_path / "utils.py"))
    assert (tmp_path / "__pycache__").exists()
    assert task_files(tmp_path) == before


def test_every_file_that_decides_what_is_measured(tmp_path: Path) -> None:
    data = tmp_path / "elsewhere.json"
    data.write_text("[]")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "a.yaml").write_text(
        "include: shared\ntask: a\ndoc_to_text: !function words.text\n"
        f"dataset_kwargs: {{data_files: {{test: [{data}]}}}}"
    )
    (folder / "shared").write_text("process_docs: !function deep.down.docs\ndataset_kwargs: {data_files: none.json}")
    (folder / "words.py").write_text("")
    (folder / "deep").mkdir()
    (folder / "deep" / "down.py").write_text("")
    (folder / "other.yaml").write_text("task: [unclosed")
    relative = [path.relative_to(tmp_path.resolve()).as_posix() for path in task_files(folder / "a.yaml")]
    assert relative == ["elsewhere.json", "tasks/a.yaml", "tasks/deep/down.py", "tasks/shared", "tasks/words.py"]
    assert set(task_files(folder)) == {*task_files(folder / "a.yaml"), (folder / "other.yaml").resolve()}


def test_data_that_a_pattern_means_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's library of data sets takes data_files for a pattern, whatever is called so."""
    monkeypatch.chdir(tmp_path)
    for name in ("part1.json", "part[1].json", "part2.json"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "task.yaml").write_text("task: a\ndataset_kwargs: {data_files: 'part[1].json'}")
    assert [file.name for file in task_files(Path("task.yaml"))] == ["part1.json", "part[1].json", "task.yaml"]
    (tmp_path / "task.yaml").write_text("task: a\ndataset_kwargs: {data_files: 'part?.json'}")
    assert [file.name for file in task_files(Path("task.yaml"))] == ["part1.json", "part2.json", "task.yaml"]


def test_local_tasks_count_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by the harness's version; here one is said to be installed."""
    installed = "9.9"
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed if name == "lm-eval" else version(name))
    keys = []
    for place, rows in (("a", "[1]"), ("b", "[1]"), ("c", "[2]")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "data.json").write_text(rows)
        (tmp_path / place / "task.yaml").write_text("task: x\ndataset_kwargs: {data_files: data.json}")
        monkeypatch.chdir(tmp_path / place)
        keys.append(trial_key(trial_with(harness_tasks=["./task.yaml"])))
    assert keys[0] == keys[1] != keys[2]
    named = trial_with(harness_tasks=["arc_easy"])
    before = trial_key(named)
    assert contents([named])["arc_easy"] == {"lm-eval": "9.9", "name": "arc_easy"}
    installed = "9.10"
    assert trial_key(named) != before
    with pytest.raises(LocationError, match=r"harness_tasks: './no.yaml' does not exist"):
        trial_key(trial_with(harness_tasks=["./no.yaml"]))
