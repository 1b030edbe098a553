"""Parts of one dialogue stay on one side, by brute force over random files."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Splits, load_splits, repeated

Row = dict[str, Any]


def user(text: str, **more: Any) -> Row:
    return {"role": "user", "content": text, **more}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def write(path: Path, rows: Iterable[Row], **fields: Any) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(str(path), **fields)


def said(example: Example) -> list[tuple[str, str]]:
    """The dialogue without system prompts and further keys."""
    if example.conversation is None:
        return [("user", example.prompt), ("assistant", example.target)]
    return [(turn["role"], turn["content"]) for turn in example.conversation.messages if turn["role"] != "system"]


def assert_no_leak(splits: Splits) -> None:
    """No prompt with its answer, of what is held out, begins a dialogue of a split after it; nor is a prompt in two."""
    for later, before in (
        (splits.train, splits.validation),
        (splits.train, splits.test),
        (splits.validation, splits.test),
    ):
        held_out = [said(example) for example in before]
        for dialogue in map(said, later):
            for one in held_out:
                assert dialogue[: len(one)] != one
                assert one[: len(dialogue)] != dialogue
                assert dialogue[:-1] != one[:-1]


def exploded(number: int, num_turns: int) -> list[Row]:
    """Dialogues with one row for every turn of the assistant's."""
    rows = []
    for dialogue in range(number):
        turns: list[Row] = []
        for turn in range(num_turns):
            turns += [user(f"{dialogue} q{turn}"), assistant(f"{dialogue} a{turn}")]
            rows.append({"messages": list(turns)})
    return rows


def test_of_exploded_dialogues_a_cut_takes_one_row_and_leaves_out_the_others(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", exploded(15, 4))
    splits = load_splits(source, None, None, 4, 3, 0)
    assert (len(splits.validation), len(splits.test), len(splits.train)) == (4, 3, 8 * 4)
    assert splits.num_duplicates_removed == {"train": 7 * 3, "validation": 0, "test": 0}
    assert splits.num_siblings_removed == {"train": 0, "validation": 0, "test": 0}
    assert repeated(splits.train) == 0
    assert_no_leak(splits)
    with pytest.raises(
        DataError, match=r"has 15 distinct prompts left .* rows that are parts of one dialogue count once"
    ):
        load_splits(source, None, None, 4, 15, 0)


def test_greetings_alone_do_not_join_dialogues(tmp_path: Path) -> None:
    chats = [{"messages": [user("Hi"), assistant("Hello"), user(f"q{i}"), assistant("a")]} for i in range(10)]
    splits = load_splits(write(tmp_path / "rows.jsonl", chats), None, None, 2, 2, 0)
    assert len(splits.train) == 6
    branches = [*chats, {"messages": [user("Hi"), assistant("Hello")]}, *exploded(3, 1)]
    splits = load_splits(write(tmp_path / "rows.jsonl", branches), None, None, 1, 1, 0)
    assert_no_leak(splits)


BASE = [{"messages": [user(f"q{i}"), assistant("a")]} for i in range(12)]


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        ([{"messages": [user(f"q{i}", at=i), assistant("a")]} for i in range(12)], {}),
        (BASE, {"system": "Be brief."}),
        ([row | {"tools": [{"name": f"f{i}"}]} for i, row in enumerate(BASE)], {}),
        ([{"prompt": f"q{i}", "completion": "a"} for i in range(12)], {}),
        ([{"q": f"q{i}", "a": "a"} for i in range(12)], {"prompt": "{q}", "target": "{a}"}),
        ([{"instruction": f"q{i}", "output": "a", "system": "Be brief."} for i in range(12)], {}),
        (
            [
                {"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": "a"}]}
                for i in range(12)
            ],
            {},
        ),
        ([{"messages": [*BASE[i]["messages"], user("more"), assistant("b")]} for i in range(12)], {}),
    ],
)
def test_the_same_dialogue_in_another_shape(tmp_path: Path, rows: list[Row], fields: Row) -> None:
    one, other = write(tmp_path / "a.jsonl", BASE), write(tmp_path / "b.jsonl", rows, **fields)
    splits = load_splits([one, other], None, None, 3, 2, 0)
    assert len(splits.train) == 2 * 7
    assert splits.num_duplicates_removed["train"] == 5
    assert_no_leak(splits)
    few = write(tmp_path / "few.jsonl", BASE[:5])
    splits = load_splits(other, None, few, 3, None, 0)
    assert splits.num_duplicates_removed["train"] == 5
    assert_no_leak(splits)


@pytest.mark.parametrize("seed", range(40))
def test_no_answer_stands_behind_its_prompt_in_a_dialogue_that_is_trained_on(tmp_path: Path, seed: int) -> None:
    """Few words, so that many dialogues share beginnings, prompts and answers."""
    draw = random.Random(seed)
    plain, chats = [], []
    for _ in range(60):
        turns: list[Row] = [{"role": "system", "content": draw.choice("ST")}] if draw.random() < 0.3 else []
        for _ in range(draw.choice((1, 1, 2, 3))):
            more = {"at": draw.random()} if draw.random() < 0.3 else {}
            turns += [user(draw.choice("abcdefghij"), **more), assistant(draw.choice("xyz"))]
        chats.append({"messages": turns, "g": draw.randrange(30)})
        plain.append(
            {"prompt": draw.choice("abcdefghijklmnop"), "completion": draw.choice("xyz"), "g": draw.randrange(30, 50)}
        )
    group = "{g}" if seed % 4 == 3 else None
    first = write(tmp_path / "chats.jsonl", chats[:40], group=group)
    second = write(tmp_path / "plain.jsonl", plain[:8], group=group, system="P" if seed % 2 else None)
    held_out = write(tmp_path / "more.jsonl", chats[40:50], group=group)
    own = seed % 3 == 0
    splits = load_splits([first, second], held_out if own else None, None, None if own else 3, 3, seed)
    assert_no_leak(splits)
    kept = len(splits.train) + len(splits.validation) + len(splits.test)
    lost = sum(splits.num_duplicates_removed.values()) + sum(splits.num_siblings_removed.values())
    assert kept + lost == 40 + 8 + 10 * own


def test_units_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = exploded(8, 3)
    cuts = []
    for ordered in (rows, rows[::-1]):
        splits = load_splits(write(tmp_path / "rows.jsonl", ordered), None, None, 2, 2, 0)
        cuts.append([{said(example)[0] for example in part} for part in (splits.train, splits.validation, splits.test)])
    assert cuts[0] == cuts[1]
