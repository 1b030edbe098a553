"""Several train sources: what a pass over the data has of each."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.seeds import generator
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Example, Segment
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Splits, _fingerprint, load_splits, repeated
from prunedlora.tasks.weights import SourceCount


def write(path: Path, prompts: list[str], **fields: Any) -> Source:
    """The target is the first letter."""
    if path.suffix == ".txt":
        path.write_text("".join(f"{prompt}\n" for prompt in prompts))
        return Source(str(path), prompt="{text}", target="{text}", **fields)
    path.write_text("".join(json.dumps({"q": prompt, "a": prompt[0]}) + "\n" for prompt in prompts))
    return Source(name=str(path), prompt="{q}", target="{a}", **fields)


def numbered(letter: str, count: int) -> list[str]:
    return [f"{letter}{i}" for i in range(count)]


def load(*trains: Source, validation: int = 6, test: int = 4, seed: int = 0, **more: Any) -> Splits:
    return load_splits(list(trains), None, None, validation, test, seed, **more)


def times(splits: Splits) -> dict[str, Counter[int]]:
    """First letter → how often its examples come → how many come so often."""
    found: dict[str, Counter[int]] = {}
    for prompt, number in Counter(example.prompt for example in splits.train).items():
        found.setdefault(prompt[0], Counter())[number] += 1
    return found


def test_each_source_comes_as_often_as_its_weight_says(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", numbered("a", 40), weight=2.5)
    b = write(tmp_path / "b.txt", numbered("b", 30))
    c = write(tmp_path / "c.jsonl", numbered("c", 50), weight=0.25, num_examples=21)
    splits = load(a, b, c, validation=12, test=8)
    cut = Counter(example.prompt[0] for example in (*splits.validation, *splits.test))
    assert cut.total() == 20
    assert set(cut) == set("abc")  # of all sources together
    left = {"a": 40 - cut["a"], "b": 30 - cut["b"], "c": 21 - cut["c"]}
    total = {"a": round(2.5 * left["a"]), "b": left["b"], "c": round(0.25 * left["c"])}
    more = total["a"] - 2 * left["a"]
    assert times(splits) == {
        "a": Counter({2: left["a"] - more, 3: more}), "b": Counter({1: left["b"]}), "c": Counter({1: total["c"]})
    }  # fmt: skip
    assert splits.train_sources == (
        SourceCount(a.name, 2.5, left["a"], total["a"]),
        SourceCount(b.name, 1.0, left["b"], total["b"]),
        SourceCount(c.name, 0.25, total["c"], total["c"]),
    )
    assert splits.num_duplicates_removed == {"train": 0, "validation": 0, "test": 0}
    assert len(splits.train) == sum(total.values())
    assert repeated(splits.train) == 0
    assert splits == load(a, b, c, validation=12, test=8)
    assert splits.fingerprint != load(a, b, c, validation=12, test=8, seed=1).fingerprint


def test_weights_change_train_alone(tmp_path: Path) -> None:
    a, b = numbered("a", 40), numbered("b", 30)
    plain = load(write(tmp_path / "a.jsonl", a), write(tmp_path / "b.jsonl", b))
    heavy = load(write(tmp_path / "a.jsonl", a, weight=3.0), write(tmp_path / "b.jsonl", b))
    assert (plain.validation, plain.test) == (heavy.validation, heavy.test)
    assert heavy.train[: len(plain.train)] == plain.train  # all once before any comes again
    assert plain.fingerprint != heavy.fingerprint


def test_any_beginning_of_a_split_is_of_all_its_sources(tmp_path: Path) -> None:
    """The first validation examples may be all that is evaluated (evaluation.max_examples)."""
    a, b = write(tmp_path / "a.jsonl", numbered("a", 60)), write(tmp_path / "b.jsonl", numbered("b", 60))
    c, d = write(tmp_path / "c.jsonl", numbered("c", 60)), write(tmp_path / "d.jsonl", numbered("d", 60))
    splits = load_splits([a, b], [c, d], None, None, 10, 0)
    for part, letters in ((splits.train, "ab"), (splits.validation, "cd")):
        first = Counter(example.prompt[0] for example in part[:40])
        assert min(first[letter] for letter in letters) > 10


def test_repeated_examples_are_apart_in_training(tmp_path: Path) -> None:
    """Not next to each other more often than chance has it: 2 of 120 neighbours are expected to be the same."""
    splits = load(write(tmp_path / "a.jsonl", numbered("a", 50), weight=3.0), write(tmp_path / "b.jsonl", ["b"] * 3))
    order = torch.randperm(len(splits.train), generator=generator(0, "order", 0)).tolist()
    prompts = [splits.train[index].prompt for index in order if splits.train[index].prompt != "b"]
    for row in (prompts, [example.prompt for example in splits.train if example.prompt != "b"]):
        assert sum(one == other for one, other in pairwise(row)) < 10


def test_what_is_in_two_sources_stays_and_is_counted(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", [*numbered("a", 20), "same"], weight=2.0)
    other = write(tmp_path / "b.jsonl", [*numbered("b", 20), "same", "a3"])
    splits = load_splits([one, other], write(tmp_path / "v.jsonl", ["v", "a3"]), None, None, 2, 5)
    assert repeated(splits.train) == 1
    assert splits.num_duplicates_removed["train"] == 2  # a3 of both
    assert Counter(example.prompt for example in splits.train)["same"] == 3


@pytest.mark.parametrize(
    ("weight", "prompts", "message"),
    [
        (
            0.01,
            numbered("b", 20),
            r"weight 0\.01 leaves none of the 20 train examples of source '.*b\.jsonl'; it must be ",
        ),
        (1.0, ["a0", "v"], r"no train example of source '.*b\.jsonl' is left: all are in another split as well"),
    ],
)
def test_a_source_without_an_example_is_refused(
    tmp_path: Path, weight: float, prompts: list[str], message: str
) -> None:
    sources = [write(tmp_path / "a.jsonl", numbered("a", 9)), write(tmp_path / "b.jsonl", prompts, weight=weight)]
    other = [write(tmp_path / f"{name}.jsonl", ["a0", "v", "w"]) for name in ("v", "w")]
    other[1] = write(tmp_path / "w.jsonl", ["w"])
    with pytest.raises(DataError, match=message):
        load_splits(sources, *other, None, None, 0)


def test_a_weight_that_leaves_a_class_out_is_refused(tmp_path: Path) -> None:
    sources = [
        write(tmp_path / "a.jsonl", numbered("a", 20)),
        write(tmp_path / "b.jsonl", [*numbered("b", 18), "c1", "c2", "c3"]),
    ]
    assert {example.target for example in load(*sources, validation=3, test=3, cut="stratified").train} == set("abc")
    sources[1] = write(tmp_path / "b.jsonl", [*numbered("b", 18), "c1", "c2", "c3"], weight=0.1)
    with pytest.raises(DataError, match="weights of the train sources leave no train example of class 'c'; raise them"):
        load(*sources, validation=3, test=3, cut="stratified")
    load(*sources, validation=3, test=3)


def test_groups_go_over_sources(tmp_path: Path) -> None:
    """What is cut takes its group along in every source."""
    rows = {name: [f"{i % 10} {name}{i}" for i in range(30)] for name in "ab"}
    sources = [write(tmp_path / f"{name}.jsonl", prompts, group="{a}") for name, prompts in rows.items()]
    sources[1] = replace(sources[1], weight=2.0)
    splits = load(*sources, validation=2, test=1)
    assert splits.num_groups == {"train": 7, "validation": 2, "test": 1}
    assert splits.num_siblings_removed["train"] == 3 * 6 - 3
    assert [count.num_per_pass for count in splits.train_sources] == [7 * 3, 2 * 7 * 3]
    other = replace(sources[1], group=None)
    with pytest.raises(DataError, match="give group for every source or for none"):
        load(sources[0], other)


def test_the_fingerprint_tells_conversations_and_segments_apart() -> None:
    """Their two texts are not all that their tokens are made of."""
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    talks = [
        Conversation((user, answer)),
        Conversation((user, answer | {"reasoning_content": "because"})),
        Conversation((user, answer), num_prompt=1),
        Conversation((user, answer), options={"enable_thinking": False}),
        Conversation((user, answer), tools=({"name": "f"},)),
    ]
    rows = [(Segment("q", first), Segment("a", True)) for first in (True, False)]
    examples = [
        Example("q", "a"),
        Example("q", "a", columns={"unit": "m"}),
        *(Example("q", "a", conversation=talk) for talk in talks),
        *(Example("q", "a", segments=row) for row in rows),
    ]
    assert len({_fingerprint((example,)) for example in examples}) == len(examples)
