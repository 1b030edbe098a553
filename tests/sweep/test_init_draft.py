"""Every combination of sizes, lengths and kinds of data gives a file that loads, and whose comments say the facts."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunedlora.config.load import load_sweep
from prunedlora.sweep.init_columns import Recognised
from prunedlora.sweep.init_draft import draft
from prunedlora.sweep.init_facts import DataFacts, Lengths
from prunedlora.sweep.init_model import ModelFacts
from prunedlora.sweep.init_text import WIDTH, commented_yaml
from tests.pairwise import pairwise

MODELS = {
    "22M": ("bert", 22_713_216, 6, 384, 512),
    "135M": ("llama", 134_515_008, 30, 576, 8192),
    "8B": ("llama", 8_030_000_000, 32, 4096, 131072),
    "14B": ("qwen3", 14_800_000_000, 40, 5120, None),
}
KINDS = ("classes", "one large class", "long answers", "short answers", "final numbers", "text")
METRICS = dict(zip(KINDS, ("accuracy", "macro_f1", "loss", "exact_match", "final_number", "loss"), strict=True))
LENGTHS = {"short": Lengths(14, 53, 98), "long": Lengths(800, 3900, 9000)}
NUMBERS = (30, 240, 9503, 400_000)


def facts(model: str, kind: str, length: str, number: int) -> tuple[ModelFacts, DataFacts]:
    family, num_params, num_layers, hidden_size, limit = MODELS[model]
    has_classes = kind in KINDS[:2]
    found = ModelFacts(
        {"name": "owner/model"}, "SomeModel", family, num_params, num_layers, hidden_size, (2 * hidden_size,) * 100,
        ("score",) if has_classes else (), limit,
    )  # fmt: skip
    fields = {} if kind == "text" else {"prompt": "{a}\nb:", "target": "{c}"}
    task = "text_classification" if has_classes else "generation"
    cut = min(500, max(10, number // 5))
    section: dict[str, Any] = {
        "task": task,
        "train": {"name": "d.csv", **fields},
        "num_validation": cut,
        "num_test": cut,
    }
    rare = number // (2 if kind == "classes" else 9)
    answers = Lengths(3, 8, 40) if kind == "short answers" else Lengths(60, 200, 400)
    data = DataFacts(
        section=section,
        recognised=Recognised(task, fields, "what it is"),
        num_train=number,
        num_validation=cut,
        num_test=cut,
        num_measured=min(2000, number + cut),
        lengths=LENGTHS[length],
        answers=None if has_classes else answers,
        asked=None if has_classes else LENGTHS[length],
        classes={"a": number - rare, "b": rare} if has_classes else None,
        has_prompts=kind != "text",
        has_final_numbers=kind == "final numbers",
    )
    return found, data


def test_every_combination_loads(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    rows = list(product(MODELS, KINDS, LENGTHS, NUMBERS, (False, True)))
    for model, kind, length, number, has_gpu in (rows[index] for index in pairwise(rows)):
        made = draft("name", "runs/name", *facts(model, kind, length, number), has_gpu=has_gpu)
        path.write_text(commented_yaml(made.tree, made.notes))
        sweep = load_sweep(path)
        trial = sweep.trial
        assert sweep.quality == trial.evaluation.figure == METRICS[kind]
        low, high = sweep.space["optimizer.learning_rate"].corners()
        assert low < trial.optimizer.learning_rate < high
        assert trial.pruning is not None
        assert trial.pruning.ladder is not None
        rungs = trial.pruning.ladder.rungs.sizes
        assert rungs[0] < min(sweep.space["adapter.initial_rank"].corners())
        assert trial.training.num_steps is not None
        assert trial.training.num_steps >= 4 * len(rungs), "each rung trains"
        assert (trial.data.max_length or 0) <= (MODELS[model][4] or 10**9)
        assert sweep.resources.gpus_per_worker == has_gpu
        plain = [
            (each.adapter.initial_rank, each.optimizer.learning_rate)
            for each in sweep.baseline_trials()
            if each.adapter
        ]
        assert {rank for rank, _ in plain} == {8, 1}
        assert all(low < tried < high for _, tried in plain)
        assert len(set(plain)) == len(set(sweep.baseline_labels())) == 6


def test_comments_name_what_was_measured() -> None:
    made = draft("chats", "runs/chats", *facts("14B", "long answers", "long", 9503), has_gpu=True)
    text = commented_yaml(made.tree, made.notes)
    assert max(map(len, text.splitlines())) <= WIDTH
    read = " ".join(text.replace("#", " ").split())
    for said in (
        "14,800,000,000 parameters",
        "9,503 training examples",
        "median 800 tokens, 99% at most 3,900, longest 9,000",
        "Weights take 30 GB in bfloat16; `quantization: nf4` beside the name takes about 7 GB",
        "as it does for Qwen, https://thinkingmachines.ai/blog/lora/",
        "Recognised: what it is.",
    ):
        assert said in read
    assert "learning_rate: 0.0" in text
    assert "sampler" not in text, "defaults are not written"


def test_long_passes_are_limited_and_long_validation_is_sampled() -> None:
    model, data = facts("8B", "short answers", "long", 9503)
    made = draft("n", "s", model, DataFacts(**vars(data) | {"num_validation": 7000}), has_gpu=True)
    assert made.tree["trial"]["training"]["micro_batch_tokens"] == 4096
    assert made.tree["trial"]["evaluation"] == {"metric": "exact_match", "max_new_tokens": 40, "max_examples": 500}
    # Prompts of up to 9,000 tokens: 99 of 100 pass whole, with room for the answer.
    assert made.tree["trial"]["data"]["max_length"] == 3968


@pytest.mark.parametrize(
    "value",
    ["{a}, {b}: #c", "a\nb", 'say "it"', "yes", "1e-3", "null", 6.7e-05, 0.0013, None, [1, "x, y"], {"a: b": []}],
)
def test_values_are_read_as_they_were(value: object, tmp_path: Path) -> None:
    text = commented_yaml({"k": {"inner": value, "more": "m" * 130}}, {})
    assert yaml.safe_load(text) == {"k": {"inner": value, "more": "m" * 130}}
