import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.sources import Example, Source, load_examples, local_files

ROWS = [{"text": f"text {i}", "label": "even" if i % 2 == 0 else "odd"} for i in range(20)]
FAMILIES = {"min_family_size": 3, "max_family_size": 4}


def source(name: object, **fields: Any) -> Source:
    return Source(**{"name": str(name), "prompt": "{text}", "target": "{label}", **fields})


def generated(task: str = "family_relationships", **fields: Any) -> Source:
    defaults = {"prompt": "{question}", "target": "{answer}", "options": FAMILIES, "seed": 7, "num_examples": 5}
    return Source(name=f"reasoning_gym:{task}", **{**defaults, **fields})


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    datasets.Dataset.from_list(rows).to_parquet(str(path))


@pytest.mark.parametrize(
    ("suffix", "write"),
    [("csv", write_csv), ("json", write_json), ("jsonl", write_jsonl), ("parquet", write_parquet)],
)
def test_a_file_of_each_kind_gives_its_rows(
    tmp_path: Path, suffix: str, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    write(tmp_path / f"rows.{suffix}", ROWS)
    examples = load_examples(source(tmp_path / f"rows.{suffix}"), 0)
    assert sorted((e.prompt, e.target) for e in examples) == sorted((row["text"], row["label"]) for row in ROWS)
    assert all(example.verifier is None for example in examples)


def test_the_order_is_a_seeded_shuffle_and_num_examples_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ROWS)
    whole = load_examples(source(path), 0)
    assert whole != [Example(row["text"], row["label"]) for row in ROWS]
    assert load_examples(source(path), 0) == whole
    assert load_examples(source(path, num_examples=6), 0) == whole[:6]
    assert load_examples(source(path), 1) != whole


def test_words_that_look_like_missing_values_stay_words(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nNA,null\nNaN,None\n")
    examples = load_examples(source(tmp_path / "rows.csv"), 0)
    assert sorted((e.prompt, e.target) for e in examples) == [("NA", "null"), ("NaN", "None")]


def test_a_folder_holds_a_file_per_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data" / "train.csv", ROWS)
    write_jsonl(tmp_path / "data" / "held_out.jsonl", ROWS[:3])
    (tmp_path / "data" / "LICENSE").write_text("free")
    monkeypatch.chdir(tmp_path)
    assert len(load_examples(source("data", split="train"), 0)) == 20
    assert len(load_examples(source("./data", split="held_out"), 0)) == 3
    assert len(load_examples(source("data", split="train[:25%]"), 0)) == 5
    (tmp_path / "data" / "train.csv").unlink()
    assert len(load_examples(source("data"), 0)) == 3


def test_a_copy_of_a_hub_repository_loads_like_the_repository(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", ROWS)
    assert len(load_examples(source(tmp_path), 0)) == 20
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", ROWS[:4])
    assert len(load_examples(source(tmp_path, split="test"), 0)) == 4
    with pytest.raises(DataError, match="has several splits, name one as split: train, test"):
        load_examples(source(tmp_path), 0)


def test_class_labels_become_their_names(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    examples = load_examples(source(tmp_path / "rows.parquet"), 0)
    assert sorted((e.prompt, e.target) for e in examples) == [("a", "good"), ("b", "bad")]
    datasets.Dataset.from_list([{"text": "a", "label": -1}], features=features).to_parquet(str(tmp_path / "no.parquet"))
    with pytest.raises(DataError, match=r"row 0 has no label \(a test split without labels\?\)"):
        load_examples(source(tmp_path / "no.parquet"), 0)


def test_reasoning_gym_gives_the_generators_examples_and_its_verifier() -> None:
    import reasoning_gym

    examples = load_examples(generated(), 0)
    dataset = reasoning_gym.create_dataset("family_relationships", size=5, seed=7, **FAMILIES)
    assert [(e.prompt, e.target) for e in examples] == [(entry["question"], entry["answer"]) for entry in dataset]
    assert examples == load_examples(generated(), 1)
    verifier = examples[0].verifier
    assert verifier is not None
    assert verifier(examples[0].target) == 1
    assert verifier("nobody") < 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split": "train"}, "split has no effect on local data"),
        ({"subset": "main", "revision": "v1"}, "revision, subset has no effect on local data"),
        ({"num_examples": 21}, "has 20 rows, num_examples asks for 21"),
        ({"prompt": "{question}\n{label}"}, "has no column question; it has: text, label"),
        ({"target": "{"}, "template '{' is malformed"),
    ],
)
def test_fields_that_do_not_fit_a_file(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match=message):
        load_examples(source(tmp_path / "rows.jsonl", **fields), 0)


def test_splits_that_a_folder_does_not_have(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", ROWS)
    with pytest.raises(DataError, match="has no split 'dev'; it has: test, train"):
        load_examples(source(tmp_path, split="dev"), 0)
    with pytest.raises(DataError, match="has several files, name one as split: test, train"):
        load_examples(source(tmp_path), 0)
    write_jsonl(tmp_path / "test.jsonl", ROWS)
    with pytest.raises(DataError, match=r"has several files for one split: test.csv, test.jsonl"):
        load_examples(source(tmp_path, split="test"), 0)


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "/nowhere", "~/no_such_folder", "nowhere/rows.csv"])
def test_a_path_that_does_not_exist(name: str) -> None:
    with pytest.raises(DataError, match=f"data path '{name}' does not exist"):
        load_examples(source(name), 0)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_text("text")
    with pytest.raises(DataError, match=r"suffix that is not known; known: \.csv, \.json, \.jsonl, \.parquet"):
        load_examples(source(tmp_path / "rows.xlsx"), 0)
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "empty.jsonl").write_text("")
    for name in ("empty.csv", "empty.jsonl"):
        with pytest.raises(DataError, match=f"{name}' is empty"):
            load_examples(source(tmp_path / name), 0)
    (tmp_path / "broken.json").write_text('{"text": ')
    with pytest.raises(DataError, match=r"cannot load dataset '.*broken.json': "):
        load_examples(source(tmp_path / "broken.json"), 0)
    write_jsonl(tmp_path / "gap.jsonl", [{"text": "a", "label": "x"}, {"text": None, "label": "x"}])
    with pytest.raises(DataError, match=r"gap.jsonl', row 1: column 'text' has no value"):
        load_examples(source(tmp_path / "gap.jsonl"), 0)


def test_a_hub_dataset_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="cannot load dataset 'no-such-owner/no-such-data': "):
        load_examples(source("no-such-owner/no-such-data", subset="main", split="train"), 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            generated("family_relation"),
            "unknown reasoning-gym task 'family_relation'; did you mean: family_rel",
        ),
        (generated("qqqqqq"), "unknown reasoning-gym task 'qqqqqq'; did you mean: .*chain_sum"),
        (generated(options={"min_size": 3}), "has no option min_size; its options: .*max_family_size, min_family_size"),
        (generated(options={"seed": 3}), r"has no option seed; .*\(seed and num_examples are fields of the source\)"),
        (
            generated(options={"min_family_size": 5, "max_family_size": 4}),
            "'family_relationships' refuses options .*: max_family_size must be >= min_family_size",
        ),
        (generated(seed=None), "source 'reasoning_gym:family_relationships' needs seed and num_examples"),
        (generated(prompt="{text}"), "has no column text; it has: question, answer"),
    ],
)
def test_reasoning_gym_sources_that_cannot_be(wrong: Source, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_examples(wrong, 0)


def test_reasoning_gym_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(DataError, match="needs a package: pip install reasoning-gym"):
        load_examples(generated(), 0)


def test_local_files_are_those_that_are_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", ROWS)
    assert local_files(source(tmp_path, split="train")) == [tmp_path / "train.csv"]
    assert local_files(source(tmp_path / "test.csv")) == [tmp_path / "test.csv"]
    assert local_files(generated()) == []
    assert local_files(source("owner/data")) == []
    (tmp_path / "copy" / "data").mkdir(parents=True)
    write_parquet(tmp_path / "copy" / "data" / "train-0.parquet", ROWS)
    assert local_files(source(tmp_path / "copy")) == [tmp_path / "copy" / "data" / "train-0.parquet"]
