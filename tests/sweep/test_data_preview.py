"""Examples as they are shown: what an answer is generated from, and what it is compared with."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from prunedlora.config.load import parse_sweep
from prunedlora.sweep.data_preview import _shown, preview
from prunedlora.tasks.example import Example
from prunedlora.tasks.task import Features, Shortened
from prunedlora.training.data import BatchOrder
from prunedlora.trial.assemble import num_steps
from prunedlora.trial.assets import load_data
from tests.tiny import decoder_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("preview")
    tree = decoder_tree(folder, folder / "store", max_new_tokens=4)
    tree["trial"]["evaluation"]["metric"] = "exact_match"
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    return tree


def test_an_answer_s_prompt_is_shown_where_a_template_writes_it_otherwise(tree: dict[str, Any]) -> None:
    """Two turns trained, the second one asked for; in training nothing is asked."""
    trial = parse_sweep(tree, "test").trial
    tokenizer = AutoTokenizer.from_pretrained(trial.model.name)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    first, second = ids("river: "), ids("stone<end>")
    whole = [*first, *second, *first, *second]
    a, b = len(first), len(first) + len(second)
    features = Features(whole, [a, b, a + b, 2 * b], Shortened.NOT, None, prompt_ids=ids("cloud: "))
    asked: list[bool] = []
    task: Any = SimpleNamespace(
        labels=None,
        scored=lambda example: replace(example, target="as it is scored"),
        encode=lambda examples, prompts: (asked.append(prompts), [features] * len(examples))[1],
    )
    example = Example("p", "stone", place="dataset 'x', row 4")
    (one,) = _shown(trial, task, tokenizer, [example], "test")
    assert [(run.text, run.is_trained) for run in one.runs] == [
        ("river: ", False), ("stone<end>", True), ("river: ", False), ("stone<end>", True)
    ]  # fmt: skip
    assert one.asked is not None
    assert ["".join(run.text for run in one.asked), one.is_beginning, one.target] == [
        "cloud: ",
        False,
        "as it is scored",
    ]
    assert one.place == "dataset 'x', row 4"
    (one,) = _shown(trial, task, tokenizer, [example], "train")
    assert (one.asked, one.target, one.is_beginning) == (None, None, False)
    assert asked == [True, False]


def test_padding_is_that_of_the_training_s_own_order(tree: dict[str, Any], tmp_path: Path) -> None:
    """Against the batches themselves, for passes of an example, of two, and for two workers."""
    for size, num_workers in ((1, 1), (2, 1), (None, 2)):
        tree["trial"]["training"]["micro_batch_size"] = size
        trial = parse_sweep(tree, "test").trial
        found = preview(trial, num_examples=0, shown=["train"], num_workers=num_workers).padding
        train = load_data(trial).features["train"]
        order = BatchOrder(train, 8, size, None, trial.seed)
        steps = range(num_steps(trial, len(train)))
        parts = [p for i in steps for r in range(num_workers) for p in order.micro_batches(i, r, num_workers)]
        tokens = sum(len(feature.input_ids) for part in parts for feature in part)
        padded = sum(len(part) * max(len(feature.input_ids) for feature in part) for part in parts)
        assert found is not None
        assert found.share == 1 - tokens / padded
        assert found.num_steps == 12
        assert (found.share == 0) == (size == 1)


def test_nothing_is_padded_where_nothing_is_trained(tree: dict[str, Any]) -> None:
    adapter = {
        "method": "lora",
        "start_from": "./here",
        "head_modules": tree["trial"]["adapter"].get("head_modules", []),
    }
    tree["trial"] |= {
        "adapter": adapter, "pruning": None, "cuts": {"sizes": {"mean_rank": [1]}},
        "training": {"num_steps": 0, "batch_size": 8},
    }  # fmt: skip
    tree["trial"]["evaluation"]["milestones"] = []
    assert preview(parse_sweep(tree, "test").trial, num_examples=0, shown=["train"]).padding is None
