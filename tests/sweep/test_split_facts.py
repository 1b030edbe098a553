"""Figures of a split by hand: spans, conversations, what was cut and repeated, sources."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunedlora.config.data_section import DataConfig
from prunedlora.sweep.split_facts import SourceFacts, Spread, Talk, _sources, facts_of, label_counts
from prunedlora.tasks.example import Conversation, Example
from prunedlora.tasks.splits import Splits, repeated
from prunedlora.tasks.task import Features, Shortened
from prunedlora.tasks.tokenised import read_tokens, write_tokens


def talk(*roles: str, number: int = 0, tools: tuple[Any, ...] | None = None) -> Example:
    messages = tuple({"role": role, "content": f"{role} {number}"} for role in roles)
    place = f"dataset 'chats, row 1.jsonl', row {number}"
    return Example(f"{roles} {number}", "t", conversation=Conversation(messages, tools), place=place)


def data(**changes: Any) -> DataConfig:
    source = {"name": "chats, row 1.jsonl", "prompt": "{p}", "target": "{t}"}
    return DataConfig.model_validate(
        {"task": "generation", "train": source, "num_validation": 1, "num_test": 1, **changes}
    )


def test_of_conversations(tmp_path: Path) -> None:
    examples = [
        talk("user", "assistant"),
        talk("system", "user", "assistant", "user", "assistant", number=1, tools=({"name": "f"},)),
        talk("user", "assistant", "tool", "assistant", number=2),
        talk("user", "assistant"),
    ]
    features = [
        Features([0] * 10, [4, 10], Shortened.NOT, None),
        Features([0] * 20, [5, 8, 15, 20], Shortened.AT_TURNS, None),
        Features([0] * 30, [1, 2, 29, 30], Shortened.IN_TEXT, None),
        Features([0] * 10, [4, 10], Shortened.NOT, None),
    ]
    task: Any = SimpleNamespace(encode=lambda *_, **__: features, labels=None)
    write_tokens(tmp_path / "train.arrow", task, examples, prompts=False)
    tokens = read_tokens(tmp_path / "train.arrow", 4)
    assert tokens.trained_lengths.tolist() == [6, 8, 2, 6]
    assert tokens[1:3].trained_lengths.tolist() == [8, 2]
    removed = {"train": 3, "validation": 0, "test": 0}, {"train": 1, "validation": 0, "test": 0}
    splits = Splits(tuple(examples), (), (), removed[0], "", removed[1])
    found = facts_of(data(), splits, "train", tokens, task)
    assert (found.num_examples, found.num_groups, found.num_tokens) == (4, None, 70)
    assert found.lengths == Spread(10, 10, 30, 30)
    assert found.trained == Spread(2, 6, 8, 8)
    assert found.trained_share == 22 / 70
    assert (found.num_cut_in_text, found.num_cut_at_turns, found.num_repeated) == (1, 1, 1)
    assert (found.num_duplicates_removed, found.num_siblings_removed) == (3, 1)
    assert found.talk == Talk(
        4, Spread(2, 2, 5, 5), {"assistant": 6, "user": 5, "system": 1, "tool": 1}, with_system=0.25, with_tools=0.25
    )
    assert found.sources == (SourceFacts("chats, row 1.jsonl", 1.0, 4, 4),)


@pytest.mark.parametrize("labels", [("a", "b")])
def test_of_classes(tmp_path: Path, labels: tuple[str, ...]) -> None:
    examples = tuple(Example(f"p{i}", "ab"[i % 3 == 0], group=f"g{i % 2}") for i in range(5))
    task: Any = SimpleNamespace(
        encode=lambda asked, **_: [Features([1] * (i + 1), [0], Shortened.NOT, None) for i in range(len(asked))],
        labels=labels,
    )
    write_tokens(tmp_path / "x.arrow", task, examples, prompts=False)
    splits = Splits(examples, examples[:2], examples[2:3], {}, "")
    found = facts_of(data(), splits, "train", read_tokens(tmp_path / "x.arrow", 5), task)
    assert (found.trained, found.trained_share, found.talk) == (None, None, None)
    assert (found.num_groups, found.lengths) == (2, Spread(1, 3, 5, 5))
    assert found.sources == (SourceFacts("chats, row 1.jsonl", 1.0, None, None),)  # their places are not told
    assert label_counts(splits) == {
        "a": {"train": 3, "validation": 1, "test": 1}, "b": {"train": 2, "validation": 1, "test": 0}
    }  # fmt: skip


def test_what_a_weight_repeats_is_no_duplicate() -> None:
    one, other = Example("p", "t"), Example("p", "u")
    assert repeated([one, other, one]) == 1
    assert repeated([one, Example("q", "t"), one]) == 0
    assert repeated([Example("", "text"), Example("", "other"), Example("", "text")]) == 1


def test_a_source_with_a_weight_counts_its_examples_and_its_pass() -> None:
    one, two = (Example(str(i), "t", place=f"dataset 'a', row {i}") for i in range(2))
    other = Example("2", "t", place="dataset 'b', row 0")
    sources = [
        {"name": name, "weight": weight, "prompt": "{p}", "target": "{t}"} for name, weight in (("a", 1.5), ("b", 1))
    ]
    found = list(_sources(data(train=sources), "train", [one, two, other, one]))
    assert found == [SourceFacts("a", 1.5, 2, 3), SourceFacts("b", 1.0, 1, 1)]
    assert list(_sources(data(train=sources), "test", [one])) == []
