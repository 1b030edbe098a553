import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Splits, load_splits


def write(path: Path, prompts: list[str], target: str = "x") -> Source:
    path.write_text("".join(json.dumps({"q": prompt, "a": target}) + "\n" for prompt in prompts))
    return Source(name=str(path), prompt="{q}", target="{a}")


def generated(seed: int, **fields: Any) -> Source:
    defaults = {"name": "reasoning_gym:chain_sum", "prompt": "{question}", "target": "{answer}", "num_examples": 30}
    return Source(**{**defaults, "seed": seed, **fields})


def prompts(examples: tuple[Example, ...]) -> list[str]:
    return sorted(example.prompt for example in examples)


def assert_disjoint(splits: Splits) -> None:
    train, validation, test = (set(prompts(part)) for part in (splits.train, splits.validation, splits.test))
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_sources_of_their_own_lose_what_a_split_before_them_has(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["a", "a", "b", "c", "d", "d"])
    validation = write(tmp_path / "validation.jsonl", ["b", "e", "f", "f"])
    test = write(tmp_path / "test.jsonl", ["c", "e", "g", "g"])
    splits = load_splits(train, validation, test, None, None, 0)
    assert prompts(splits.test) == ["c", "e", "g", "g"]
    assert prompts(splits.validation) == ["b", "f", "f"]
    assert prompts(splits.train) == ["a", "a", "d", "d"]
    assert splits.num_duplicates_removed == {"train": 2, "validation": 1, "test": 0}


@pytest.mark.parametrize("seed", range(5))
def test_cuts_have_their_size_and_no_prompt_is_on_two_sides(tmp_path: Path, seed: int) -> None:
    names = [f"prompt {i % 30}" for i in range(70)]  # 10 prompts three times, 20 twice
    splits = load_splits(write(tmp_path / "train.jsonl", names), None, None, 8, 5, seed)
    assert len(splits.validation) == len(set(prompts(splits.validation))) == 8
    assert len(splits.test) == len(set(prompts(splits.test))) == 5
    assert_disjoint(splits)
    assert len(splits.train) + 13 + splits.num_duplicates_removed["train"] == 70
    kept = set(prompts(splits.train))
    assert prompts(splits.train) == sorted(name for name in names if name in kept)
    assert len(kept) == 30 - 13


def test_a_cut_beside_a_source(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [f"p{i}" for i in range(20)])
    other = write(tmp_path / "other.jsonl", [f"p{i}" for i in range(15, 25)])
    cut_validation = load_splits(train, None, other, 6, None, 0)
    assert (len(cut_validation.train), len(cut_validation.validation), len(cut_validation.test)) == (9, 6, 10)
    assert_disjoint(cut_validation)
    cut_test = load_splits(train, other, None, None, 6, 0)
    assert len(cut_test.test) == 6
    assert_disjoint(cut_test)
    lost = len(set(prompts(cut_test.test)) & {f"p{i}" for i in range(15, 25)})
    assert cut_test.num_duplicates_removed["validation"] == lost == 10 - len(cut_test.validation)


def test_the_cut_depends_on_the_seed_and_hardly_on_the_size_of_the_source(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(200)]
    smaller = load_splits(write(tmp_path / "a.jsonl", names[:190]), None, None, 40, 20, 0)
    larger = load_splits(write(tmp_path / "b.jsonl", names), None, None, 40, 20, 0)
    assert len(set(prompts(smaller.test)) & set(prompts(larger.test))) >= 15
    other = load_splits(write(tmp_path / "b.jsonl", names), None, None, 40, 20, 1)
    assert len(set(prompts(other.test)) & set(prompts(larger.test))) <= 10
    assert other.fingerprint != larger.fingerprint


def test_the_fingerprint_sees_every_change(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(20)]
    same = [load_splits(write(tmp_path / f"{i}.jsonl", names), None, None, 4, 4, 0).fingerprint for i in range(2)]
    assert same[0] == same[1]
    other_target = load_splits(write(tmp_path / "t.jsonl", names, "y"), None, None, 4, 4, 0).fingerprint
    other_size = load_splits(write(tmp_path / "s.jsonl", names), None, None, 5, 3, 0).fingerprint
    assert len({same[0], other_target, other_size}) == 3


def test_splits_are_the_same_in_every_process(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [f"p{i}" for i in range(50)])
    code = (
        "import sys\n"
        "from prunedlora.tasks.sources import Source\n"
        "from prunedlora.tasks.splits import load_splits\n"
        "train = Source(name=sys.argv[1], prompt='{q}', target='{a}')\n"
        "family = Source(name='reasoning_gym:family_relationships', prompt='{question}', target='{answer}', seed=1,"
        " num_examples=20)\n"
        "print(load_splits(train, family, None, None, 9, 3).fingerprint)\n"
        "assert 'torch' not in sys.modules\n"
    )
    found = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", code, train.name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_generated_splits(tmp_path: Path) -> None:
    splits = load_splits(generated(0), generated(100), generated(200), None, None, 0)
    assert_disjoint(splits)
    assert splits.train[0].verifier is not None


def test_overlapping_seeds_are_refused() -> None:
    message = "seeds 100 and 129 of 'reasoning_gym:chain_sum' give the same examples: .* so 30 examples need"
    with pytest.raises(DataError, match=message):
        load_splits(generated(129), generated(100), generated(200), None, None, 0)
    load_splits(generated(130), generated(100), generated(100, options={"min_terms": 5}), None, None, 0)


@pytest.mark.parametrize(("with_source", "number"), [(True, 3), (False, None)])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_exactly_one_origin_per_split(tmp_path: Path, split: str, with_source: bool, number: int | None) -> None:
    train = write(tmp_path / "train.jsonl", ["a", "b", "c"])
    arguments: dict[str, Any] = {"validation": None, "test": None, "num_validation": 1, "num_test": 1}
    arguments |= {split: train if with_source else None, f"num_{split}": number}
    with pytest.raises(DataError, match=f"give exactly one of {split} .a source. and num_{split}"):
        load_splits(train, split_seed=0, **arguments)


def test_too_little_to_cut_from(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["a", "b", "c", "c"])
    message = "cannot cut 1 validation examples from train source .*: it has 1 distinct prompts left and at least one"
    with pytest.raises(DataError, match=message):
        load_splits(train, None, None, 1, 2, 0)
    with pytest.raises(DataError, match=r"cannot cut 3 test examples from train source .*: it has 3 distinct prompts"):
        load_splits(train, None, None, 1, 3, 0)


def test_a_split_of_nothing_but_duplicates(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["a", "b", "a"])
    other = write(tmp_path / "other.jsonl", ["c"])
    with pytest.raises(DataError, match="no train example is left: all 3 prompts are in another split as well"):
        load_splits(train, other, train, None, None, 0)
    with pytest.raises(DataError, match="no validation example is left: all 3 prompts are in another split as well"):
        load_splits(other, train, train, None, None, 0)


def write_rows(path: Path, rows: list[dict[str, Any]], group: str | None = None) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(name=str(path), prompt="{q}", target="{a}", group=group)


def rephrased(numbers: range, variants: int) -> list[dict[str, Any]]:
    """Questions, each in several words, as in MetaMathQA."""
    return [
        {"q": f"{n} in words {v}", "a": str(n), "original": f"question {n}"} for n in numbers for v in range(variants)
    ]


def groups(examples: tuple[Example, ...]) -> set[str | None]:
    return {example.group for example in examples}


@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_in_two_splits(tmp_path: Path, seed: int) -> None:
    rows = rephrased(range(100), 26)
    splits = load_splits(write_rows(tmp_path / "t.jsonl", rows, "{original}"), None, None, 20, 10, seed)
    apart = [groups(part) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in apart] == [70, 20, 10]
    assert len(set.union(*apart)) == 100
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (70 * 26, 20, 10)
    assert splits.num_groups == {"train": 70, "validation": 20, "test": 10}
    assert splits.num_siblings_removed == {"train": 30 * 25, "validation": 0, "test": 0}
    assert splits.num_duplicates_removed == {"train": 0, "validation": 0, "test": 0}
    # Without groups nearly every question of validation is in train as well, in other words.
    blind = load_splits(write_rows(tmp_path / "t.jsonl", rows), None, None, 20, 10, seed)
    trained = {example.target for example in blind.train}
    assert sum(example.target in trained for example in blind.validation) == 20
    assert blind.num_groups is None


def test_groups_of_sources_of_their_own(tmp_path: Path) -> None:
    """Their templates differ: what one source calls a question is the other's original."""
    train = write_rows(
        tmp_path / "train.jsonl", [*rephrased(range(10), 3), {"q": "3", "a": "3", "original": "x"}], "{original}"
    )
    test = write_rows(tmp_path / "test.jsonl", [{"q": "3", "a": "3"}, {"q": "5", "a": "5"}], "question {q}")
    validation = write_rows(
        tmp_path / "v.jsonl", [{"q": "v", "a": "5"}, {"q": "5", "a": "0"}, {"q": "7", "a": "7"}], "question {a}"
    )
    splits = load_splits(train, validation, test, None, None, 0)
    assert prompts(splits.validation) == ["7"]
    assert groups(splits.train) == {f"question {n}" for n in (0, 1, 2, 4, 6, 8, 9)}
    assert splits.num_siblings_removed == {"train": 9, "validation": 1, "test": 0}
    assert splits.num_duplicates_removed == {"train": 1, "validation": 1, "test": 0}


def test_groups_of_generated_examples() -> None:
    splits = load_splits(generated(0, group="{answer}"), None, None, 5, 5, 0)
    assert splits.num_groups is not None
    apart = [groups(part) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, apart)) == len(set.union(*apart))
    assert splits.train[0].group == splits.train[0].target
    assert splits.train[0].verifier is not None


def test_a_prompt_of_two_groups_is_not_in_two_splits_either(tmp_path: Path) -> None:
    rows = [{"q": f"q{n % 40}", "a": "x", "original": f"g{n}"} for n in range(80)]
    splits = load_splits(write_rows(tmp_path / "t.jsonl", rows, "{original}"), None, None, 10, 10, 0)
    assert_disjoint(splits)
    assert not groups(splits.train) & groups(splits.validation)


def test_growing_a_source_moves_few_groups(tmp_path: Path) -> None:
    smaller = write_rows(tmp_path / "a.jsonl", rephrased(range(190), 3), "{original}")
    larger = write_rows(tmp_path / "b.jsonl", rephrased(range(200), 4), "{original}")
    one, other = (load_splits(source, None, None, 40, 20, 0) for source in (smaller, larger))
    assert len(groups(one.test) & groups(other.test)) >= 15


def test_groups_that_do_not_do(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "t.jsonl", rephrased(range(4), 3), "{original}")
    with pytest.raises(
        DataError, match=r"it has 4 distinct groups left and .*; it takes one example of each: .* source"
    ):
        load_splits(source, None, None, 1, 5, 0)
    with pytest.raises(DataError, match="give group for every source or for none"):
        load_splits(source, write(tmp_path / "v.jsonl", ["a"]), None, None, 1, 0)
    with pytest.raises(DataError, match="has no column author; it has: q, a, original"):
        load_splits(write_rows(tmp_path / "t.jsonl", rephrased(range(4), 3), "{author}"), None, None, 1, 1, 0)


def classes(counts: dict[str, int]) -> list[dict[str, Any]]:
    return [{"q": f"{name} {n}", "a": name} for name, count in counts.items() for n in range(count)]


def targets(examples: tuple[Example, ...]) -> Counter[str]:
    return Counter(example.target for example in examples)


@pytest.mark.parametrize("seed", range(5))
def test_a_stratified_cut_gives_every_class_its_share(tmp_path: Path, seed: int) -> None:
    rows = classes({"a": 600, "b": 300, "rare": 3})
    source = write_rows(tmp_path / "t.jsonl", rows)
    splits = load_splits(source, None, None, 30, 60, seed, "stratified")
    assert targets(splits.test) == {"a": 39, "b": 20, "rare": 1}
    assert targets(splits.validation) == {"a": 20, "b": 9, "rare": 1}
    assert targets(splits.train)["rare"] == 1
    assert_disjoint(splits)
    order = [example.target for example in splits.test]
    assert order != sorted(order)  # the first ones of a split are a fair sample of it
    larger = write_rows(tmp_path / "l.jsonl", classes({"a": 630, "b": 310, "rare": 3}))
    grown = load_splits(larger, None, None, 30, 60, seed, "stratified")
    assert len(set(prompts(grown.test)) & set(prompts(splits.test))) >= 50


def test_a_random_cut_that_leaves_a_class_out_is_refused_with_the_way_out(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "t.jsonl", classes({"a": 500, "b": 500, "rare": 3}))
    message = (
        r"cannot cut 10 test examples .*: test would have no example of 1 of 3 classes \('rare'\); data.stratify: "
    )
    with pytest.raises(DataError, match=message + "true gives every class its share of each split, false goes without"):
        load_splits(source, None, None, 10, 10, 0, "complete")
    assert targets(load_splits(source, None, None, 10, 10, 0, "stratified").validation)["rare"] == 1
    assert targets(load_splits(source, None, None, 10, 10, 0).validation)["rare"] == 0
    few = write_rows(tmp_path / "f.jsonl", classes({"a": 8, "b": 2}))
    with pytest.raises(
        DataError, match=r"training would have no example of 1 of 2 classes \('b'\); data.stratify: true"
    ):
        load_splits(few, few, None, None, 9, 0, "complete")
    plain = write_rows(tmp_path / "p.jsonl", classes({"a": 50, "b": 50}))
    kept = load_splits(plain, None, None, 20, 20, 0, "complete")
    assert kept == load_splits(plain, None, None, 20, 20, 0)


@pytest.mark.parametrize("cut", ["complete", "stratified"])
def test_no_way_to_cut_helps_a_class_with_fewer_prompts_than_splits(tmp_path: Path, cut: Any) -> None:
    source = write_rows(tmp_path / "t.jsonl", classes({"a": 40, "rare": 1, "two": 2}))
    message = (
        r"class 'rare' has 1 and needs 3, one for each split \(2 classes have too few\); take such classes out of the "
        "data, or give validation and test sources of their own"
    )
    for seed in range(20):
        with pytest.raises(DataError, match=message):
            load_splits(source, None, None, 5, 5, seed, cut)
    other = write_rows(tmp_path / "o.jsonl", classes({"c": 1}))
    with pytest.raises(DataError, match=r"cannot cut 5 validation examples .* class 'rare' has 1 and needs 2"):
        load_splits(source, None, other, 5, None, 0, cut)


def test_stratified_cuts_that_cannot_be(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "t.jsonl", [*classes({"a": 50, "b": 2}), *classes({"b": 2})])
    message = "cannot cut 5 test examples from train .*: counted in distinct prompts, class 'b' has 2 and needs 3"
    with pytest.raises(DataError, match=message):
        load_splits(source, None, None, 5, 5, 0, "stratified")
    other = write_rows(tmp_path / "o.jsonl", classes({"c": 1}))
    assert targets(load_splits(source, None, other, 5, None, 0, "stratified").validation) == {"a": 4, "b": 1}
    rows = [{"q": f"{n} {v}", "a": "b" if v == 0 else "a", "original": str(n)} for n in range(6) for v in range(20)]
    mixed = write_rows(tmp_path / "m.jsonl", rows, "{original}")
    message = (
        r"validation would have no example of 1 of 2 classes \('b'\); the groups of these classes hold examples of"
    )
    with pytest.raises(DataError, match=message):
        load_splits(mixed, None, write_rows(tmp_path / "g.jsonl", rows[:1], "x{q}"), 3, None, 0, "stratified")
