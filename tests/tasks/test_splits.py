import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.sources import Example, Source
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
