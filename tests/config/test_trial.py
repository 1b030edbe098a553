"""Sections of a trial that do not fit together are refused."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trial.evaluation.metric", "f1", "evaluation.metric 'f1' is unknown to task 'text_classification'; known: "),
        ("trial.evaluation.max_new_tokens", 5, "evaluation.max_new_tokens is without effect for metric 'accuracy'"),
        ("trial.evaluation.stop", ["x"], "evaluation.stop is without effect for metric 'accuracy', which generates no"),
        ("trial.evaluation.stop", ["x", "y", "x"], "stop names a text twice: ['x', 'y', 'x']"),
        ("trial.pruning.min_rank", 5, "pruning.min_rank 5 forbids the target: rank 4 on average"),
        ("trial.pruning.min_rank", 9, "pruning.min_rank 9 is above adapter.initial_rank 8"),
        ("trial.adapter.method", "lora", "the pruning section has no effect on method 'lora'; set pruning to null"),
        ("trial.pruning", None, "method 'prunedlora' needs a pruning section"),
        ("trial.adapter.head_modules", ["classifier"], "adapter.head_modules and optimizer.head_learning_rate must be"),
        ("trial.training.micro_batch_size", 8, "training.micro_batch_size 8 is above batch_size 4"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    tree: dict[str, Any], path: str, value: Any, message: str
) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


def test_a_function_of_one_s_own_as_metric(tree: dict[str, Any]) -> None:
    put(tree, "trial.evaluation.metric", "my/metrics.py:score")
    put(tree, "objectives", {"my/metrics.py:score": "maximize", "max_rank": "minimize"})
    assert "figures of a function of one's own have its name: score" in error_of(tree)
    put(tree, "objectives", {"accuracy": "maximize", "max_rank": "minimize"})
    assert "objective 'accuracy' is no recorded figure; known: adapter_bytes," in error_of(tree)
    put(tree, "objectives", {"score": "maximize", "max_rank": "minimize"})
    trial = parse_sweep(tree, "x.yaml").trial
    assert (trial.evaluation.figure, trial.generate) == ("score", None)
    put(tree, "trial.evaluation.max_new_tokens", 5)
    assert "max_new_tokens is without effect for metric 'my/metrics.py:score'" in error_of(tree)
    put(tree, "trial.data.task", "generation")
    assert parse_sweep(tree, "x.yaml").trial.generate == "all"
    put(tree, "trial.evaluation.max_new_tokens", None)
    assert "max_new_tokens is needed for metric 'my/metrics.py:score'" in error_of(tree)
    put(tree, "trial.evaluation.metric", "score.py")
    assert "'score.py' is unknown to task 'generation'; known: exact_match, final_number, verifier" in error_of(tree)


@pytest.mark.parametrize(
    "name", ["loss", "exact_match", "matthews", "adapter_params", "status", "loss_stderr", "config"]
)
def test_a_function_has_no_name_that_records_use(tree: dict[str, Any], name: str) -> None:
    put(tree, "trial.evaluation.metric", f"metrics.py:{name}")
    assert f"evaluation.metric 'metrics.py:{name}': '{name}' is a figure, a size or a column of results th" in error_of(
        tree
    )


def test_a_forward_pass_has_one_limit(tree: dict[str, Any]) -> None:
    put(tree, "trial.training.micro_batch_size", 2)
    put(tree, "trial.training.micro_batch_tokens", 512)
    assert "give micro_batch_size 2 or micro_batch_tokens 512, not both" in error_of(tree)


CUTS = {"sizes": {"kept": [0.5]}}
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
        ({"adapter.method": "svd", "svd": {"ranks": [8, 4]}}, "svd.ranks [8, 4] must lie below adapter.initial_rank 8"),
        (
            {"adapter": None, "full": {}, "cuts": CUTS},
            "full fine-tuning has no adapter that cuts could be made of; set cuts to null",
        ),
        (
            {"adapter.method": "adalora", "adalora": ADALORA, "cuts": CUTS},
            "cuts does not go with method 'adalora', whose singular triplets are no pair of factors; set cuts to null",
        ),
        (
            {"adapter.method": "svd", "svd": {"ranks": [2]}, "cuts": CUTS},
            "cuts does not go with method 'svd', which makes cuts of its own (svd.ranks): take method lora for others",
        ),
        (
            {"cuts": CUTS | {"at": "every_rung"}},
            "cuts.at 'every_rung' needs pruning.schedule 'ladder'; set it to end, or cuts to null",
        ),
        ({"cuts": {"sizes": {"mean_rank": [8]}}}, "cuts.sizes.mean_rank 8 must lie below adapter.initial_rank 8"),
        (
            {"cuts": {"sizes": {"mean_rank": [0.5]}, "allocations": ["uniform"]}},
            "sizes.mean_rank 0.5 needs an allocation over layers; with uniform every layer has one rank",
        ),
        (
            {"cuts": {"sizes": {"mean_rank": [0.5]}, "min_rank": 1}},
            "sizes.mean_rank 0.5 is below min_rank 1",
        ),
        ({"cuts": CUTS | {"bases": ["svd", "svd"]}}, "bases names one twice: svd, svd"),
        ({"cuts": CUTS | {"damping": 0.1}}, "damping has no effect on cuts by svd alone; remove it"),
    ],
)
def test_a_method_takes_just_what_is_its_own(tree: dict[str, Any], values: dict[str, Any], message: str) -> None:
    for path, value in values.items():
        put(tree, f"trial.{path}", value)
    assert message in error_of(tree)


def test_method_svd_is_a_case_of_free_cuts(tree: dict[str, Any]) -> None:
    for path, value in {"adapter.method": "svd", "svd": {"ranks": [4, 2]}, "pruning": None}.items():
        put(tree, f"trial.{path}", value)
    cuts = parse_sweep(tree, "test").trial.free_cuts
    assert cuts is not None
    assert (cuts.bases, cuts.allocations, cuts.sizes.mean_rank) == (["svd"], ["uniform"], [4, 2])
    assert (cuts.at, cuts.screen_examples, cuts.num_cuts) == ("end", None, 2)


def test_full_fine_tuning_of_four_bit_weights(tree: dict[str, Any]) -> None:
    tree["trial"] |= {"adapter": None, "full": {}, "pruning": None}
    put(tree, "trial.model.quantization", "nf4")
    put(tree, "resources", {"gpus_per_worker": 1})
    assert "full fine-tuning cannot train nf4 weights; remove quantization" in error_of(tree)


def test_target_rank_above_initial_rank(tree: dict[str, Any]) -> None:
    put(tree, "trial.pruning.target_sparsity", None)
    put(tree, "trial.pruning.target_rank", 9)
    assert "pruning.target_rank 9 is above adapter.initial_rank 8" in error_of(tree)


def test_global_allocation_counts_over_all_layers(tree: dict[str, Any]) -> None:
    """Half a component of slack per layer is none over many layers."""
    put(tree, "trial.pruning.target_sparsity", 0.93)
    parse_sweep(tree, "x.yaml")
    put(tree, "trial.pruning.allocation", "global")
    assert "pruning.min_rank 1 forbids the target: rank 0.56 on average" in error_of(tree)
