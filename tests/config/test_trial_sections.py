"""What a section of a trial refuses by itself."""

from typing import Any

import pytest

from prunedlora.config.load import parse_sweep
from tests.config.refused import error_of, put


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trial.optimizer.learning_rate", -1, "trial.optimizer.learning_rate: Input should be greater than 0 (got -1)"),
        ("trial.optimizer.betas", [0.9, 2], "trial.optimizer.betas.1: Input should be less than 1 (got 2)"),
        ("trial.model", {"name": "./m", "revision": "x"}, "revision has no effect on model './m', which is not from"),
        ("trial.adapter.dropout", 1.5, "trial.adapter.dropout: Input should be less than 1 (got 1.5)"),
        (
            "trial.adapter.method",
            "x",
            "unknown method 'x'; known: adalora, droplora, full, l1ra, lora, prunedlora, rslora, svd",
        ),
        ("trial.data.task", "x", "unknown task 'x'; known: generation, text_classification"),
        ("trial.training.num_epochs", 1, "give exactly one of num_steps and num_epochs"),
        ("trial.evaluation.milestones", [0.5, 0.2], "milestones must rise: [0.5, 0.2]"),
        ("trial.data.stratify", "yes please", "trial.data.stratify: Input should be a valid boolean"),
        ("trial.data.num_test", None, "give exactly one of test (a source) and num_test (cut from train)"),
        (
            "trial.model",
            {"name": "a/b", "quantization": "nf4", "gguf_file": "x"},
            "cannot be combined with gguf_file 'x'",
        ),
        (
            "trial.model",
            {"name": "a/b", "double_quantization": True},
            "double_quantization has no effect on quantization None: it is for nf4; remove it",
        ),
        (
            "trial.model",
            {"name": "a/b", "double_quantization": True, "quantization": "int8"},
            "double_quantization has no effect on quantization 'int8'",
        ),
        (
            "trial.model",
            {"name": "a/b", "attn_implementation": "flash_attention_2", "dtype": "float32"},
            "attn_implementation 'flash_attention_2' computes in half precision: set dtype to bfloat16 or float16, or",
        ),
        ("trial.data.train.seed", 0, "seed has no effect on source 'some/data'; remove it"),
        ("trial.data.train.delimiter", "\n", "delimiter '\\n' is part of the format itself; give another, as ';'"),
        ("trial.data.train.column_names", ["a", "b", "a"], "column_names has a name twice: ['a', 'b', 'a']"),
        ("trial.data.train.encoding", "utf9", "encoding 'utf9' is none of text files; give utf-8, utf-16, cp1252, …"),
        ("trial.data.train.encoding", "hex", "encoding 'hex' is none of text files; give utf-8, utf-16, cp1252, …"),
        *(
            ("trial.data.train.encoding", name, f"encoding {name!r} is none of text files; give utf-8, utf-16, cp1252")
            for name in ("undefined", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "a\0b", "")
        ),
        ("trial.data.train.seed", 3, "seed has no effect on source 'some/data'; remove it"),
        (
            "trial.data.train",
            {"name": "some/data", "format": "text"},
            "task 'text_classification' needs prompt and target for data.train ('some/data'), as '{text}' and '{label}'"
            ": rows of a format have no classes",
        ),
        (
            "trial.data.train",
            {"name": "reasoning_gym:chain_sum", "seed": 0, "num_examples": 9},
            "source 'reasoning_gym:chain_sum' is generated and has no rows of a format: give prompt and target, as "
            "'{question}' and '{answer}'",
        ),
        ("trial.data.train.name", "reasoning_gym:chain_sum", "a reasoning_gym source needs seed and num_examples"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    put(tree, path, value)
    assert message in error_of(tree)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_flash_attention_computes_in_either_half_precision(tree: dict[str, Any], dtype: str) -> None:
    put(tree, "trial.model", {"name": "a/b", "attn_implementation": "flash_attention_2", "dtype": dtype})
    put(tree, "resources", {"gpus_per_worker": 1})
    assert parse_sweep(tree, "x.yaml").trial.model.dtype == dtype


def test_groups_are_those_of_every_source(tree: dict[str, Any]) -> None:
    data = tree["trial"]["data"]
    del data["num_test"]
    data["test"] = dict(data["train"])
    data["train"] = data["train"] | {"group": "{author}"}
    assert "group is given for train and missing for test: what may not be in two splits" in error_of(tree)
    data["test"]["group"] = "{author}"
    assert parse_sweep(tree, "x.yaml").trial.data.test is not None


def test_stratify_where_nothing_is_cut_or_nothing_has_a_class(tree: dict[str, Any]) -> None:
    data = tree["trial"]["data"]
    data["stratify"] = True
    parse_sweep(tree, "x.yaml")
    data |= {"num_test": None, "num_validation": None, "test": data["train"], "validation": data["train"]}
    assert "stratify has no effect without num_validation and num_test, which cut; remove it" in error_of(tree)
    data["task"] = "generation"
    assert "stratify has no effect on task 'generation', which has no classes; remove it" in error_of(tree)
