"""A sweep file is checked whole, before anything starts: every problem at once, each with the path of its field."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunedlora.config.load import ConfigError, load_sweep, parse_sweep
from prunedlora.config.sweep import corners, trial_with
from prunedlora.config.trial import TrialConfig

QUICKSTART = Path("search_spaces/quickstart.yaml")


@pytest.fixture
def tree() -> dict[str, Any]:
    """A small valid sweep."""
    return {
        "name": "s",
        "storage": "runs/s",
        "objectives": {"accuracy": "maximize", "adapter_params": "minimize"},
        "num_trials": 4,
        "trial": {
            "model": {"name": "some/model"},
            "data": {
                "task": "text_classification",
                "train": {"name": "some/data", "prompt": "{text}", "target": "{label}"},
                "num_validation": 10,
                "num_test": 10,
            },
            "adapter": {"initial_rank": 8, "alpha": 8},
            "pruning": {"target_sparsity": 0.5, "schedule": {"begin": 0.2, "end": 0.6, "every_steps": 2}},
            "optimizer": {"learning_rate": 1e-3},
            "training": {"num_steps": 20, "batch_size": 4},
            "evaluation": {"metric": "accuracy"},
        },
        "space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    }


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[leaf] = value


def error_of(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_sweep(tree, "x.yaml")
    return str(caught.value)


def test_defaults_and_values(tree: dict[str, Any]) -> None:
    sweep = parse_sweep(tree, "x.yaml")
    assert sweep.trial.pruning is not None
    assert sweep.trial.pruning.recovery_side == "B"
    assert sweep.sampler == "tpe"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trial.adapter.initail_rank", 8, "trial.adapter.initail_rank: unknown field; did you mean 'initial_rank'?"),
        ("trial.optimizer.learning_rate", -1, "trial.optimizer.learning_rate: Input should be greater than 0 (got -1)"),
        ("trial.optimizer.betas", [0.9, 2], "trial.optimizer.betas.1: Input should be less than 1 (got 2)"),
        ("trial.model", {"name": "./m", "revision": "x"}, "revision has no effect on model './m', which is not from"),
        ("trial.adapter.dropout", 1.5, "trial.adapter.dropout: Input should be less than 1 (got 1.5)"),
        ("trial.pruning.schedule.begin", 0.7, "begin 0.7 must lie before end 0.6"),
        ("trial.pruning.schedule.name", "one_shot", "end has no effect on schedule 'one_shot'; remove it"),
        ("trial.pruning.schedule.end", None, "schedule 'cubic' needs end"),
        ("trial.pruning.criterion", "grdient", "unknown criterion 'grdient'; known: "),
        ("trial.pruning.curvature", "x", "unknown curvature 'x'; known: batch, token"),
        ("trial.pruning.allocation", "x", "unknown allocation 'x'; known: global, global_per_parameter, "),
        ("trial.pruning.schedule.name", "x", "unknown schedule 'x'; known: cosine, cubic, linear, one_shot"),
        (
            "trial.adapter.method",
            "x",
            "unknown method 'x'; known: adalora, droplora, full, l1ra, lora, prunedlora, rslora, svd",
        ),
        ("sampler", "x", "sampler: Input should be 'gp', 'nsga2', 'random' or 'tpe' (got 'x')"),
        ("trial.data.task", "x", "unknown task 'x'; known: generation, text_classification"),
        ("trial.evaluation.metric", "f1", "evaluation.metric 'f1' is unknown to task 'text_classification'; known: "),
        ("trial.evaluation.max_new_tokens", 5, "evaluation.max_new_tokens is without effect for metric 'accuracy'"),
        ("trial.pruning.target_rank", 4, "give exactly one of target_sparsity and target_rank"),
        ("trial.pruning.min_rank", 5, "pruning.min_rank 5 forbids the target: rank 4 on average"),
        ("trial.pruning.min_rank", 9, "pruning.min_rank 9 is above adapter.initial_rank 8"),
        ("trial.adapter.method", "lora", "the pruning section has no effect on method 'lora'; set pruning to null"),
        ("trial.pruning", None, "method 'prunedlora' needs a pruning section"),
        ("trial.adapter.head_modules", ["classifier"], "adapter.head_modules and optimizer.head_learning_rate must be"),
        ("trial.training.num_epochs", 1, "give exactly one of num_steps and num_epochs"),
        ("trial.training.micro_batch_size", 8, "training.micro_batch_size 8 is above batch_size 4"),
        ("trial.evaluation.milestones", [0.5, 0.2], "milestones must rise: [0.5, 0.2]"),
        ("trial.data.num_test", None, "give exactly one of test (a source) and num_test (cut from train)"),
        (
            "trial.model",
            {"name": "a/b", "quantization": "nf4", "gguf_file": "x"},
            "cannot be combined with gguf_file 'x'",
        ),
        ("trial.model.quantization", "nf4", "needs CUDA, but resources.gpus_per_worker is 0"),
        ("resources", {"gpus_per_worker": 1.5}, "gpus_per_worker must be 0, 1 or a part of one GPU, got 1.5"),
        ("resources", {"gpus_per_worker": 2}, "a worker trains on one GPU; for more of them raise num_workers"),
        ("resources", {"gpus_per_worker": 0.001}, "gpus_per_worker must be 0 or at least 0.01, got 0.001"),
        ("resources", {"gpus_per_worker": 0.5, "num_workers": 2}, "NCCL refuses two workers of a slot on one GPU"),
        ("trial.data.train.seed", 0, "seed has no effect on source 'some/data'; remove it"),
        ("trial.data.train.seed", 3, "seed has no effect on source 'some/data'; remove it"),
        ("trial.data.train.name", "reasoning_gym:chain_sum", "a reasoning_gym source needs seed and num_examples"),
        ("objectives", {"f1": "maximize", "max_rank": "minimize"}, "objective 'f1' is no recorded figure; known: "),
        ("objectives", {"accuracy": "minimize", "max_rank": "minimize"}, "objective 'accuracy' must be maximized"),
        ("objectives", {"accuracy": "maximize"}, "objectives must be one quality figure and one size, got accuracy"),
        (
            "recommend_within",
            1.0,
            "recommend_within must be below 1, a share of the examples, got 1; one",
        ),
        ("space", {}, "space: nothing is searched"),
        ("num_trials", 0, "num_trials 0 runs the baselines alone: it needs some, and an empty space"),
        ("space", {"adapter.rank": {"choice": [1]}}, "space.adapter.rank: 'adapter.rank' is no field of a trial"),
        ("space", {"seed": {"choices": [1]}}, "space.seed: an entry has exactly one of choice, uniform, log_uniform"),
        ("space", {"seed": {"choice": [1], "int": [1, 2]}}, "space.seed: an entry has exactly one of choice"),
        ("space", {"seed": {"choice": [1, 1]}}, "choice lists a value twice: [1, 1]"),
        ("space", {"seed": {"int": [3, 1]}}, "int: lowest 3 must lie below highest 1"),
        ("space", {"seed": {"int": [1, 4], "step": 2}}, "int: 4 is not reached from 1 in steps of 2"),
        ("space", {"seed": {"choice": [1], "when": {"x.y": [1]}}}, "space.seed.when: 'x.y' is not another entry"),
        ("space", {"pruning": {"value": None, "when": {"seed": [0]}}}, "space: nothing is searched"),
        ("baselines", [{"adapter.rank": 3}], "baselines[0].adapter.rank: 'adapter.rank' is no field of a trial"),
        ("baselines", [{"label": ""}], "baselines: label '' must be a text"),
        ("baselines", [{"label": "a"}, {"label": "a", "seed": 1}], "baselines: label 'a' is given twice"),
        ("baselines", [{"adapter.method": "lora"}], "the pruning section has no effect on method 'lora'"),
    ],
)
def test_bad_input(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"criterion": "magnitude", "curvature": "token"},
            "curvature has no effect with criterion 'magnitude' without",
        ),
        (
            {"criterion": "magnitude", "damping": 0.1},
            "damping has no effect with criterion 'magnitude' without recovery",
        ),
        ({"criterion": "magnitude", "recovery_side": "B"}, "recovery_side has no effect with criterion 'magnitude' wi"),
        ({"criterion": "magnitude", "ema_decay": 0.5}, "ema_decay has no effect with criterion 'magnitude' without re"),
        (
            {"criterion": "activation_obs", "curvature": "token"},
            "curvature has no effect with criterion 'activation_obs'",
        ),
        (
            {"criterion": "activation_obs", "recovery_side": "A"},
            "recovery_side 'A' does not go with criterion 'activati",
        ),
        ({"basis": "svd", "criterion": "gradient"}, "criterion has no effect with basis 'svd'; remove it"),
        ({"basis": "svd", "ema_decay": 0.5}, "ema_decay has no effect with basis 'svd'; remove it"),
        ({"basis": "whitened", "recovery_strength": 1.0}, "recovery_strength has no effect with basis 'whitened'"),
        ({"moments": "reset"}, "moments has no effect with criterion 'gradient'; remove it"),
        ({"criterion": "taylor", "gradient_cap": 0.1}, "gradient_cap goes with criterion 'gradient' on one side, not"),
        (
            {"recovery_side": "both", "gradient_cap": 0.1},
            "gradient_cap goes with criterion 'gradient' on one side, not",
        ),
        ({"round_to": 3}, "pruning: round_to 3 does not divide the initial rank 8"),
        ({"round_to": 1}, "trial.pruning.round_to"),
    ],
)
def test_a_pruning_setting_without_effect(tree: dict[str, Any], values: dict[str, Any], message: str) -> None:
    tree["trial"]["pruning"] |= values
    assert message in error_of(tree)


@pytest.mark.parametrize(
    ("values", "resolved"),
    [
        ({}, ("gradient", "token", 0.95, 0.01, 0.0, "B", None)),
        ({"criterion": "magnitude"}, ("magnitude", None, None, None, 0.0, None, None)),
        ({"criterion": "magnitude", "recovery_strength": 0.5}, ("magnitude", "token", 0.95, 0.01, 0.5, "B", None)),
        ({"criterion": "taylor"}, ("taylor", None, 0.95, None, 0.0, None, None)),
        ({"criterion": "activation_obs"}, ("activation_obs", None, 0.95, 0.01, 0.0, "B", None)),
        ({"basis": "svd"}, (None, None, None, None, None, None, "mapped")),
        ({"basis": "whitened"}, (None, None, 0.95, 0.01, None, None, "mapped")),
    ],
)
def test_unset_pruning_settings_get_a_value_where_they_have_an_effect(
    tree: dict[str, Any], values: dict[str, Any], resolved: tuple[Any, ...]
) -> None:
    """In the file, and when a space or a baseline chooses the criterion; the record has them all."""
    fields = ["criterion", "curvature", "ema_decay", "damping", "recovery_strength", "recovery_side", "moments"]
    base = parse_sweep(tree, "x.yaml").trial
    by_space = trial_with(base, {f"pruning.{name}": value for name, value in values.items()})
    tree["trial"]["pruning"] |= values
    for trial in (parse_sweep(tree, "x.yaml").trial, by_space):
        assert trial.pruning is not None
        assert tuple(getattr(trial.pruning, name) for name in fields) == resolved
        assert TrialConfig.model_validate(trial.model_dump(mode="json")) == trial


ADALORA = {"target_rank": 4, "begin": 0.1, "end": 0.5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adapter.method": "droplora"}, "method 'droplora' needs a droplora section"),
        ({"adapter.method": "adalora"}, "method 'adalora' needs an adalora section"),
        ({"adapter.method": "lora", "svd": {"ranks": [2]}}, "the svd section has no effect on method 'lora'"),
        ({"l1ra": {}}, "the l1ra section has no effect on method 'prunedlora'; set l1ra to null"),
        ({"full": {}}, "full fine-tuning has no adapter: give the section full and set adapter to null"),
        ({"adapter.method": "full"}, "full fine-tuning has no adapter: give the section full and set adapter to null"),
        ({"adapter": None}, "give an adapter section, or the section full for full fine-tuning"),
        ({"adapter": None, "full": {}}, "the pruning section has no effect on method 'full'; set pruning to null"),
        ({"adapter": None, "full": {"head_modules": ["x"]}}, "full.head_modules and optimizer.head_learning_rate must"),
        ({"adapter.method": "rslora"}, "method 'rslora' is lora with adapter.use_rslora: set it to true"),
        (
            {"adapter.method": "adalora", "adalora": ADALORA, "adapter.use_rslora": True},
            "adapter.use_rslora has no effect on method 'adalora'; set it to false",
        ),
        (
            {"adapter.method": "adalora", "adalora": ADALORA | {"target_rank": 8}},
            "adalora.target_rank 8 must be below adapter.initial_rank 8",
        ),
        (
            {"adapter.method": "adalora", "adalora": ADALORA | {"end": 0.1}},
            "trial.adalora: begin 0.1 must lie before end 0.1",
        ),
        ({"adapter.method": "svd", "svd": {"ranks": [8, 4]}}, "svd.ranks [8, 4] must lie below adapter.initial_rank 8"),
        ({"adapter.method": "svd", "svd": {"ranks": [2, 4]}}, "trial.svd: ranks must fall: [2, 4]"),
        (
            {"adapter.method": "droplora", "droplora": {"probability": 1.0}},
            "trial.droplora.probability: Input should be less than 1 (got 1.0)",
        ),
        (
            {"adapter.method": "l1ra", "l1ra": {"gate_penalty": 0}},
            "trial.l1ra.gate_penalty: Input should be greater than 0 (got 0)",
        ),
    ],
)
def test_a_method_takes_just_what_is_its_own(tree: dict[str, Any], values: dict[str, Any], message: str) -> None:
    for path, value in values.items():
        put(tree, f"trial.{path}", value)
    assert message in error_of(tree)


def test_full_fine_tuning_of_four_bit_weights(tree: dict[str, Any]) -> None:
    tree["trial"] |= {"adapter": None, "full": {}, "pruning": None}
    put(tree, "trial.model.quantization", "nf4")
    put(tree, "resources", {"gpus_per_worker": 1})
    assert "full fine-tuning cannot train nf4 weights; remove quantization" in error_of(tree)


def test_the_method_is_searched_like_any_other_field(tree: dict[str, Any]) -> None:
    tree["space"]["adapter.method"] = {"choice": ["prunedlora", "lora", "droplora"]}
    tree["space"]["pruning"] = {"value": None, "when": {"adapter.method": ["lora", "droplora"]}}
    tree["space"]["droplora"] = {"value": {"probability": 0.3}, "when": {"adapter.method": ["droplora"]}}
    tree["baselines"] = [{"adapter": None, "pruning": None, "full": {}}]
    sweep = parse_sweep(tree, "x.yaml")
    assert sweep.baseline_trials()[0].method == "full"


def test_target_rank_above_initial_rank(tree: dict[str, Any]) -> None:
    put(tree, "trial.pruning.target_sparsity", None)
    put(tree, "trial.pruning.target_rank", 9)
    assert "pruning.target_rank 9 is above adapter.initial_rank 8" in error_of(tree)


def test_circular_conditions(tree: dict[str, Any]) -> None:
    tree["space"]["seed"] = {"choice": [1], "when": {"adapter.alpha": [1]}}
    tree["space"]["adapter.alpha"] = {"choice": [1], "when": {"seed": [1]}}
    assert "space: `when` goes in a circle: seed, adapter.alpha" in error_of(tree)


@pytest.mark.parametrize(
    ("parent", "value", "message"),
    [
        ({"choice": ["linear", "cubic"]}, "cubbic", "'pruning.schedule.name' never is 'cubbic'"),
        ({"value": "linear", "when": {"seed": [0]}}, "cubic", "'pruning.schedule.name' never is 'cubic'"),
    ],
)
def test_a_condition_that_never_holds(tree: dict[str, Any], parent: dict[str, Any], value: str, message: str) -> None:
    tree["space"] = {
        "seed": {"choice": [0, 1]},
        "pruning.schedule.name": parent,
        "pruning.damping": {"uniform": [0.1, 0.2], "when": {"pruning.schedule.name": [value]}},
    }
    assert message in error_of(tree)


def test_a_condition_on_numbers(tree: dict[str, Any]) -> None:
    tree["space"]["pruning.damping"] = {"uniform": [0.1, 0.2], "when": {"optimizer.learning_rate": [1e-3]}}
    assert "'optimizer.learning_rate' is continuous; a condition needs a choice, an int or a value" in error_of(tree)
    tree["space"]["seed"] = {"int": [0, 4], "step": 2}
    tree["space"]["pruning.damping"]["when"] = {"seed": [3]}
    assert "'seed' never is 3" in error_of(tree)
    tree["space"]["pruning.damping"]["when"] = {"seed": [4]}
    parse_sweep(tree, "x.yaml")


def test_global_allocation_counts_over_all_layers(tree: dict[str, Any]) -> None:
    """Half a component of slack per layer is none over many layers."""
    put(tree, "trial.pruning.target_sparsity", 0.93)
    parse_sweep(tree, "x.yaml")
    put(tree, "trial.pruning.allocation", "global")
    assert "pruning.min_rank 1 forbids the target: rank 0.56 on average" in error_of(tree)


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


def test_every_corner_of_the_space_is_checked(tree: dict[str, Any]) -> None:
    tree["space"] = {
        "pruning.schedule.begin": {"uniform": [0.1, 0.5]},
        "pruning.schedule.end": {"uniform": [0.4, 0.8]},
    }
    message = error_of(tree)
    assert "begin 0.5 must lie before end 0.4" in message
    assert "space at pruning.schedule.begin=0.5, pruning.schedule.end=0.4" in message


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"adapter.initial_rank": {"log_uniform": [8, 64]}},
            "space.adapter.initial_rank: takes whole numbers only; write {log_int: [8, 64]}",
        ),
        (
            {"training.num_steps": {"uniform": [10, 20]}},
            "space.training.num_steps: takes whole numbers only; write {int: [10, 20]}",
        ),
        (
            {
                "adapter.initial_rank": {"int": [16, 32]},
                "pruning.round_to": {"choice": [8]},
                "pruning.target_sparsity": {"choice": [0.5]},
            },
            "space at adapter.initial_rank=17, pruning.round_to=8",
        ),
        (
            {
                "adapter.initial_rank": {"int": [8, 32]},
                "pruning.min_rank": {"value": 99, "when": {"adapter.initial_rank": [16]}},
            },
            "pruning.min_rank 99 is above adapter.initial_rank 16",
        ),
        ({"adapter.initial_rank": {"log_int": [0, 8]}}, "log_int.0: Input should be greater than 0 (got 0)"),
        (
            {"evaluation.metric": {"choice": ["accuracy", "loss"]}},
            "space at evaluation.metric=loss: evaluation.metric 'loss' does not record the objective 'accuracy'",
        ),
    ],
)
def test_what_lies_inside_of_the_space_is_checked_too(
    tree: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    tree["space"] = space
    assert message in error_of(tree)


def test_one_trial_has_one_label(tree: dict[str, Any]) -> None:
    tree["baselines"] = [{"label": "a", "seed": 3}, {"label": "b", "seed": 4}, {"label": "c", "seed": 3}, {"seed": 3}]
    assert "baselines[2]: 'c' is the same trial as 'a'" in error_of(tree)
    del tree["baselines"][2]
    assert len(parse_sweep(tree, "x.yaml").baselines) == 3


def test_many_problems_are_counted(tree: dict[str, Any]) -> None:
    tree["space"] = {"adapter.initial_rank": {"int": [16, 64]}, "pruning.round_to": {"choice": [8]}}
    message = error_of(tree)
    assert message.startswith("x.yaml: 10 problems")
    assert message.endswith("more in the space)")


def test_whole_numbers_may_be_spaced_by_their_logarithm(tree: dict[str, Any]) -> None:
    tree["space"] = {"adapter.initial_rank": {"log_int": [8, 64]}}
    assert parse_sweep(tree, "x.yaml").space["adapter.initial_rank"].corners() == [8, 64]


@pytest.mark.parametrize("top", [1200, 2500, 10**9])
def test_an_even_selection_of_a_wide_range_meets_both_ends_of_the_others(tree: dict[str, Any], top: int) -> None:
    tree["space"] = {"optimizer.learning_rate": {"uniform": [0.25, 0.5]}, "training.num_steps": {"int": [100, top]}}
    found = list(corners(parse_sweep(tree, "x.yaml").space, inner=True))
    between = [v for v in found if v["training.num_steps"] not in (100, top)]
    assert 500 < len(between) <= 2048 + 4
    rates = [{v["optimizer.learning_rate"] for v in between if v["training.num_steps"] == steps} for steps in
             {v["training.num_steps"] for v in between}]  # fmt: skip
    assert all(met >= {0.25, 0.5} for met in rates)


def test_conditional_section(tree: dict[str, Any]) -> None:
    """A method without pruning in the space: its section goes, and so do the entries under it."""
    tree["space"] = {
        "adapter.method": {"choice": ["prunedlora", "lora"]},
        "pruning": {"value": None, "when": {"adapter.method": ["lora"]}},
        "pruning.target_sparsity": {"uniform": [0.2, 0.8], "when": {"adapter.method": ["prunedlora"]}},
    }
    assert len(parse_sweep(tree, "x.yaml").space) == 3
    del tree["space"]["pruning.target_sparsity"]["when"]
    assert "give" in error_of(tree) or "missing" in error_of(tree) or "Field required" in error_of(tree)


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
        ("space.seed=1", "--set space.seed: no such field"),
        ("seed=[", "--set 'seed=[': the value is no valid YAML"),
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
        ("a: 1\na: 2", "key 'a' is given twice"),
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
