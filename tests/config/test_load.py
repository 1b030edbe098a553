"""A sweep file is checked whole, before anything starts: every problem at once, each with the path of its field."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunedlora.config.load import ConfigError, load_sweep, parse_sweep
from tests.config.refused import error_of, put


def test_defaults_and_values(tree: dict[str, Any]) -> None:
    sweep = parse_sweep(tree, "x.yaml")
    assert sweep.trial.pruning is not None
    assert sweep.trial.pruning.recovery_side == "B"
    assert sweep.sampler == "tpe"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trial.adapter.initail_rank", 8, "trial.adapter.initail_rank: unknown field; did you mean 'initial_rank'?"),
    ],
)
def test_a_misspelt_field_is_told_the_nearest(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


def test_all_problems_are_reported_at_once(tree: dict[str, Any]) -> None:
    put(tree, "trial.adapter.initail_rank", 8)
    put(tree, "trial.optimizer.learning_rate", 0)
    put(tree, "num_trials", "many")
    message = error_of(tree)
    assert message.startswith("x.yaml: 3 problems")
    for field in ("trial.adapter.initail_rank", "trial.optimizer.learning_rate", "num_trials"):
        assert field in message


def test_missing_field(tree: dict[str, Any]) -> None:
    del tree["trial"]["model"]
    assert "trial.model: missing" in error_of(tree)


def test_overrides_reach_every_field(tmp_path: Path, tree: dict[str, Any]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(tree))
    sweep = load_sweep(path, ["trial.pruning.recovery_strength=0.5", "trial.evaluation.milestones=[0.5]", "seed=7"])
    assert sweep.trial.pruning is not None
    assert sweep.trial.pruning.recovery_strength == 0.5
    assert (sweep.trial.evaluation.milestones, sweep.seed) == ([0.5], 7)


def test_the_base_alone(tmp_path: Path, tree: dict[str, Any]) -> None:
    """Overrides that the space would contradict are fine where the space is put aside."""
    path = tmp_path / "x.yaml"
    tree["space"]["pruning.damping"] = {"uniform": [0.01, 0.1]}
    path.write_text(yaml.safe_dump(tree))
    overrides = ["trial.adapter.method=lora", "trial.pruning=null"]
    sweep = load_sweep(path, overrides, base_only=True)
    assert sweep.baseline_trials() == [sweep.trial]
    with pytest.raises(ConfigError, match=r"space at"):
        load_sweep(path, overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set 'seed': write field.path=value"),
        ("trial.pruning.recovery_strenght=1", "no such field; did you mean trial.pruning.recovery_strength?"),
        ("space.seed=1", "--set space.seed: space is changed in the sweep file, not by --set"),
        ("baselines=[]", "--set baselines: baselines is changed in the sweep file, not by --set"),
        ("seed=[", "--set 'seed=[': the value is no valid YAML"),
        ("trial.pruning={a: 1, a: 2}", "--set 'trial.pruning={a: 1, a: 2}', line 1, column 8: key 'a' is given twice"),
    ],
)
def test_bad_overrides(tmp_path: Path, tree: dict[str, Any], override: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("a: [", "is no valid YAML"),
        ("- a", "must hold a mapping of settings, not list"),
        ("a: 1\nb: 2\na: 2", "x.yaml, line 3, column 1: key 'a' is given twice, first in line 1, column 1"),
        ("b:\n- c: 1\n  d: {e: 0, e: 1}", "line 3, column 13: key 'e' is given twice, first in line 3, column 7"),
        ("a: &a [*a]", "x.yaml, a value that cannot be read: Circular reference detected"),
        ("a: " + "[" * 3000, "x.yaml, nested too deeply"),
        ("a: !!int x", "x.yaml, a value that cannot be read: invalid literal for int()"),
        ("{[a]: 1}", "is no valid YAML: while constructing a mapping"),
    ],
)
def test_bad_files(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml") as caught:
        load_sweep(path)
    assert message in str(caught.value)


def test_scientific_notation_is_a_number(tmp_path: Path, tree: dict[str, Any]) -> None:
    """YAML 1.1 reads 1e-3 as text; people mean a number."""
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert load_sweep(path, ["trial.optimizer.learning_rate=1e-3"]).trial.optimizer.learning_rate == 1e-3
    tree["space"]["optimizer.learning_rate"] = {"choice": ["PLACE", 2]}
    path.write_text(yaml.safe_dump(tree).replace("PLACE", "1e-3"))
    assert load_sweep(path).space["optimizer.learning_rate"].corners() == [1e-3, 2]


def test_what_looks_like_a_date_is_text(tmp_path: Path, tree: dict[str, Any]) -> None:
    """No setting is a date, and a trial's key cannot be made of one."""
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(tree))
    sweep = load_sweep(path, ["trial.model.config_overrides={a: 2024-01-31, b: 2024-13-45}"])
    assert sweep.trial.model.config_overrides == {"a": "2024-01-31", "b": "2024-13-45"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (".nan", "trial.model.config_overrides.a.float: Input should be a finite number (got nan)"),
        (
            "[1, {b: .inf}]",
            "trial.model.config_overrides.a.list.1.dict.b.float: Input should be a finite number (got inf)",
        ),
        ("!!set {b}", "trial.model.config_overrides.a: input was not a valid JSON value (got {'b'})"),
    ],
)
def test_options_that_no_key_can_be_made_of(tmp_path: Path, tree: dict[str, Any], value: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path, [f"trial.model.config_overrides={{a: {value}}}"])
    assert message in str(caught.value)


@pytest.mark.parametrize("path", sorted(Path("search_spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_are_valid(path: Path) -> None:
    assert load_sweep(path).name == path.stem


def test_checking_a_sweep_imports_neither_optuna_nor_ray() -> None:
    check = (
        "import sys\n"
        "from pathlib import Path\n"
        "from prunedlora.config.load import load_sweep\n"
        "load_sweep(Path('search_spaces/quickstart.yaml'))\n"
        "print(sorted({'optuna', 'ray'} & sys.modules.keys()))\n"
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_prompts_of_shipped_files_leave_the_space_to_the_answer() -> None:
    """All but those of the character model, to which a space is a token like any other; and rephrasings have groups."""
    spaced = set()
    for path in Path("search_spaces").glob("*.yaml"):
        data = load_sweep(path).trial.data
        for source in data.all_sources:
            if data.task == "generation" and source.prompt is not None and source.prompt != source.prompt.rstrip():
                spaced.add(path.stem)
            assert (source.name == "meta-math/MetaMathQA") == (source.group == "{original_question}")
    assert spaced == {
        "compare_small",
        "compare_small_placement",
        "ladder_settings",
        "ladder_small",
        "search_small",
        "search_small_single",
    }
