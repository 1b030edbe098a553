"""What the plan and the start of a run say about data that are no error."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from prunedlora.config.fields import with_values
from prunedlora.config.load import parse_sweep
from prunedlora.sweep.findings import data_line
from prunedlora.sweep.plan import print_plan
from prunedlora.sweep.preflight import preflight
from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.weights import SourceCount
from tests.tiny import decoder_tree, sweep_tree


def test_the_data_line_counts_what_was_left_out() -> None:
    train, other = Example("p", "t", group="g"), Example("q", "t", group="h")
    removed = {"train": 1200, "validation": 3, "test": 0}, {"train": 40, "validation": 0, "test": 0}
    splits = Splits((train, train), (other,), (other,), removed[1], "", removed[0])
    assert data_line(splits) == (
        "2 train (1 groups), 1 validation (1 groups), 1 test (1 groups); left out, being in another split: "
        "40 repeated from train, 1,200 of a group from train, 3 of a group from validation"
    )


def test_nothing_is_said_of_borders_that_a_chat_template_writes(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    (tmp_path / "turns.jinja").write_text("{% for m in messages %}{{ m.content }}<end>{% endfor %}")
    halves = {"trial.data.train.prompt": "{question} ri", "trial.data.train.target": "ver {answer}"}
    template = {"trial.data.chat_template": str(tmp_path / "turns.jinja")}
    assert preflight(parse_sweep(with_values(tree, halves | template), "test")).warnings == ()


def test_the_data_line_says_what_several_sources_give() -> None:
    train, other = Example("p", "t"), Example("q", "t")
    removed = {"train": 40, "validation": 0, "test": 0}
    sources = (SourceCount("a.jsonl", 2.0, 600, 1200), SourceCount("b.txt", 1.0, 7, 7), SourceCount("c", 0.5, 3, 3))
    splits = Splits((train,) * 1210, (other,), (other,), removed, "", dict.fromkeys(removed, 0), sources)
    assert data_line(splits) == (
        "1,210 train, 1 validation, 1 test; each pass over train has 1,200 of 'a.jsonl' (600 different, weight 2), "
        "7 of 'b.txt', 3 of 'c' (3 different, weight 0.5); left out, being in another split: 40 repeated from train"
    )


def test_templates_that_do_not_meet_are_warned_of(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    assert preflight(parse_sweep(tree, "test")).warnings == ()
    halves = {"trial.data.train.prompt": "{question} ri", "trial.data.train.target": "ver {answer}"}
    found = preflight(parse_sweep(with_values(tree, halves), "test"))
    assert found.data == ("48 train, 8 validation, 8 test",)
    assert found.warnings == (
        "data.train: in 48 of 48 examples prompt '{question} ri' and target 'ver {answer}' do not meet in tokens that "
        "the tokenizer makes of a running text",
    )


def test_rows_of_prompt_and_completion_that_do_not_meet_are_warned_of(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    rows = [{"prompt": f"{n} ri", "completion": f"ver {n}"} for n in range(64)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree["trial"]["data"]["train"] = {"name": str(tmp_path / "rows.jsonl")}
    assert preflight(parse_sweep(tree, "test")).warnings == (
        "data.train: in 48 of 48 examples prompt and completion of the rows do not meet in tokens that the tokenizer "
        "makes of a running text",
    )


def test_what_a_template_does_is_warned_of(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    text = "{% for m in messages %}{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}so {% endif %}"
    (tmp_path / "turns.jinja").write_text(text)
    (found,) = preflight(
        parse_sweep(with_values(tree, {"trial.data.chat_template": str(tmp_path / "turns.jinja")}), "t")
    ).warnings
    assert found.startswith(
        "in 48 of 48 conversations looked at the chat template does not write the prompt that the a"
    )


def test_a_plan_shows_groups_and_warnings(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = tmp_path / "grouped.csv"
    labels = ["front", "back"]
    rows = [f"word {n} {v},{labels[n % 2]},{n}" for n in range(60) for v in range(3)]
    data.write_text("\n".join(["text,label,author", *rows, "word rare,rare,none", ""]))
    values = {
        "trial.data.train.name": str(data),
        "trial.data.train.group": "{author}",
        "trial.data.stratify": False,
        "trial.data.split_seed": 3,
    }
    config = parse_sweep(with_values(sweep_tree(tmp_path, tmp_path / "store"), values), "test")
    text = io.StringIO()
    print_plan(config, config.storage, Console(file=text, width=80))
    assert (
        "Data: 61 train (21 groups), 20 validation (20 groups), 20 test (20 groups); left out, being in another split: "
        "80 of a group from train\n"
    ) in text.getvalue()
    for split in ("validation", "test"):
        assert (
            f"Warning: {split} has no example of 1 of 3 classes, as data.stratify: false allows; true gives every "
            "class its share\n"
        ) in text.getvalue()
