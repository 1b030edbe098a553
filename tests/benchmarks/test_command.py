"""The commands of jobs/benchmark.py: options reach the measurement, what has no effect is refused."""

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from prunedlora.benchmarks.command import app
from tests.tiny import sweep_tree


def written(folder: Path) -> str:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep_tree(folder / "tiny", "unused")), encoding="utf-8")
    return str(file)


def test_pruning_measures_what_it_is_asked_for_and_ends_with_one_line_of_json(tmp_path: Path) -> None:
    options = ["--rank", "5", "--num-steps", "5", "--num-seeds", "1", "--num-batches", "2", "--num-single-layers", "1"]
    only = ["--only", "svd/", "--only", "magnitude/*"]
    changed = ["--set", "trial.evaluation.max_examples=10"]
    result = CliRunner().invoke(app, ["pruning", "--sweep", written(tmp_path), *options, *only, *changed])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures.keys() > {"svd/", "magnitude/no recovery", "spearman"}
    assert not any(name.startswith("gradient") for name in figures)
    assert (figures["rank"], figures["num_steps"], figures["num_seeds"]) == (5, 5, 1)
    assert set(figures["spearman"]) == {"magnitude"}


def test_methods_that_are_not_there_are_refused_before_ray_starts(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["accuracy", written(tmp_path), "--only", "LoRA*"])
    assert result.exit_code == 2
    assert "error: --only 'LoRA*' fits none of: " in result.stderr


def test_a_store_that_would_not_be_looked_at_is_refused() -> None:
    result = CliRunner().invoke(app, ["overhead", "--store", "runs/quickstart", "--no-full-sweep"])
    assert result.exit_code == 2
    assert "it has no use with --no-full-sweep" in " ".join(result.stderr.replace("│", " ").split())


def test_an_empty_storage_is_none() -> None:
    """An unset variable of the shell must not mean the storage of the file."""
    for command, option in (("accuracy", "--storage"), ("overhead", "--store")):
        file = ["search_spaces/compare_small.yaml"] if command == "accuracy" else []
        result = CliRunner().invoke(app, [command, *file, option, ""])
        assert result.exit_code == 2, result.output
        assert f"{option} is empty" in " ".join(result.stderr.replace("│", " ").split())
