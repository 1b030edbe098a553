import datetime
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest

from prunedlora.tasks import library_data
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.library_data import CSV_AS_TEXT, load_folder
from prunedlora.tasks.sources import Source, load_examples

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


def targets(path: Path, **fields: Any) -> list[str]:
    return [example.target for example in load_examples(source(path, **fields), 0)]


CELLS = ["01", "1", "010", "10", "1.1", "1.10", "2.0", "2", "true", "True", "007", "0.50", "1e3", "+5", "NA", "null"]


@pytest.mark.parametrize("file", ["rows.csv", "data/train-0.csv"])
def test_the_cells_of_a_csv_are_text(tmp_path: Path, file: str) -> None:
    """Also in a folder laid out like a repository of the Hub, which the library reads."""
    (tmp_path / "data").mkdir()
    for cells in (CELLS, CELLS[:4], ["true", "false"], ["1", "2", "2.5"]):
        (tmp_path / file).write_text("text,label\n" + "".join(f"{cell},{cell}\n" for cell in cells))
        path = tmp_path / file if file == "rows.csv" else tmp_path
        examples = load_examples(source(path), 0)
        assert sorted((e.prompt, e.target) for e in examples) == sorted((cell, cell) for cell in cells)


@pytest.mark.parametrize("file", ["rows.csv", "data/train-0.csv"])
def test_no_block_of_rows_has_types_of_its_own(tmp_path: Path, file: str) -> None:
    (tmp_path / "data").mkdir()
    cells = ["01"] * 10_000 + ["02"] * 100 + ["other"] * 100
    (tmp_path / file).write_text("text,label\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    found = targets(tmp_path / file if file == "rows.csv" else tmp_path)
    assert {cell: found.count(cell) for cell in found} == {"01": 10_000, "02": 100, "other": 100}


def test_what_a_cell_of_a_csv_may_hold(tmp_path: Path) -> None:
    long = "x" * 200_000
    (tmp_path / "rows.csv").write_bytes(f'\ufefftext,label\r\n" a, ""b""\r\nc",\r\n\r\n 5" ,é\r\n{long},1\r\n'.encode())
    examples = load_examples(source(tmp_path / "rows.csv", target="{label}."), 0)
    expected = [(' a, "b"\r\nc', "."), (' 5" ', "é."), (long, "1.")]
    assert sorted((e.prompt, e.target) for e in examples) == sorted(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\na,b\na\n", "rows.csv': line 3 has 1 cells, the header has 2"),
        (b"text,label\na,b,\n", "rows.csv': line 2 has 3 cells, the header has 2"),
        (b"text,label,text\na,b,c\n", "rows.csv', several columns are called 'text'"),
        (
            b'text,label\na,b\n"a,b\n',
            r"rows.csv': the row that begins in line 3 cannot be read \(unexpected end of data\): a cell that begins",
        ),
        (
            b"text,label\n" + b"a,b\n" * 5000 + b'"Hi" he said,b\n',
            "line 5002 cannot be read .*or write the rows as jsonl",
        ),
        (
            b"text,label\n" + b"a,b\n" * 5000 + b"caf\xe9,b\n",
            r"byte 20014 \(0xe9\), in line \d+, is not utf-8; cp1252 would read '.*café,b.n' there: say it as encoding",
        ),
        (
            "text,label\né,b\n".encode("utf-16"),
            r"byte 0 \(0xff\), in line 1, is not utf-8; utf-16 would read 'text,label.*' there",
        ),
        (b"", "rows.csv' is empty"),
    ],
)
def test_malformed_csv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_examples(source(tmp_path / "rows.csv"), 0)


def test_more_cells_than_the_header_in_a_copy_of_a_hub_repository(tmp_path: Path) -> None:
    """pandas would call the first cells an index and shift the others."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-0.csv").write_text("text,label\na,b,\nc,d,\n")
    with pytest.raises(DataError, match="the rows of its csv have more cells than the header"):
        load_examples(source(tmp_path), 0)


def test_the_numbers_of_json_are_text_as_written(tmp_path: Path) -> None:
    words = ["1.10", "1.1", "1", "1.0", "1e3", "-0", "true", "false", str(10**20), '"NA"', '"2024-01-31"']
    lines = [f'{{"text": "x", "label": {word}}}' for word in words]
    expected = sorted(word.strip('"') for word in words)
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert sorted(targets(tmp_path / "rows.jsonl")) == expected
    (tmp_path / "rows.json").write_text("[" + ",\n".join(lines) + "]")
    assert sorted(targets(tmp_path / "rows.json")) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": null}', "row 0: column 'label' has no value"),
        ('{"text": "a", "label": "x"}\n{"text": "a"}', "row 1: column 'label' has no value"),
        ('{"text": "a", "label": NaN}', "row 0: column 'label' has no value"),
        ('{"text": "a", "label": {"x": 1}}', "row 0: column 'label' holds a dict"),
        ('{"text": "a"}\n{"text": "a"\n{"text": "a"}\n', "what begins in line 2 is no whole JSON: .* line 3 column 1"),
        ('{"text": "a"}\n' + "[" * 99999, "what begins in line 2 has lists and objects too deep inside one another"),
        (
            '{"text": ["a", "b"], "label": ["x", "y"]}',
            r"one object that has a list for each column \(text, label\); wri",
        ),
        ('{"\\ud83d": "a"}', r"rows.json': it has a column whose name holds '\\ud83d' at character 0, half of a char"),
        ('{"text": "a"}\n[1]', r"rows.json': row 1 is no object: \[\"1\"\]"),
        (
            '{"text": "a"}\n{"text": }',
            r"rows.json': what begins in line 2 is no whole JSON: Expecting value: line 2 column 10",
        ),
    ],
)
def test_malformed_json(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_examples(source(tmp_path / "rows.json"), 0)


@pytest.mark.parametrize("ending", ["jsonl", "json.gz", "jsonl.zst"])
def test_json_in_a_copy_of_a_hub_repository_is_the_text_in_its_files(tmp_path: Path, ending: str) -> None:
    """The library would guess types: 2024-01-31 a time, 1.10 the number 1.1, 1 in the second file a 1.0."""
    (tmp_path / "data").mkdir()
    pack = {"jsonl": bytes, "json.gz": gzip.compress, "jsonl.zst": lambda text: pyarrow.compress(text, "zstd", True)}
    contents = [b'{"text": "2024-01-31", "label": 1.10}', b'{"text": "2024-02-01T00:00:00Z", "label": 1}\n']
    for number, content in enumerate(contents):
        (tmp_path / "data" / f"train-{number}.{ending}").write_bytes(pack[ending](content))
    found = load_examples(source(tmp_path), 0)
    assert sorted((e.prompt, e.target) for e in found) == [("2024-01-31", "1.10"), ("2024-02-01T00:00:00Z", "1")]
    assert targets(tmp_path, split="train[:1]") == ["1.10"]
    assert sorted(targets(tmp_path, split="train[:1]+train[1:]")) == ["1", "1.10"]
    with pytest.raises(DataError, match="has no split 'dev'; it has: train"):
        targets(tmp_path, split="dev")
    (tmp_path / "data" / f"train-0.{ending}").write_bytes(pack[ending](b"[1]"))
    with pytest.raises(DataError, match=rf"dataset '.*', train-0.{ending}: row 0 is no object: .1."):
        targets(tmp_path)
    (tmp_path / "data" / f"train-0.{ending}").write_bytes(pack[ending](b"{"))
    with pytest.raises(
        DataError, match=rf"dataset '.*', train-0.{ending}: what begins in line 1 is no whole JSON: Exp"
    ):
        targets(tmp_path)


def test_json_times_that_the_library_made_are_refused(tmp_path: Path) -> None:
    """Of the Hub: the text is lost, 2024-01-31 would become 2024-01-31 00:00:00."""
    write_jsonl(tmp_path / "train.jsonl", [{"text": "2024-01-31", "label": "x"}])
    table = library_data._load("owner/rows", str(tmp_path), None, "train", {})
    with pytest.raises(DataError, match="column 'text' is text that the datasets library takes for times"):
        table.take([0], ["text"])
    assert table.take([0], ["label"]) == {"label": ["x"]}


@pytest.mark.parametrize("file", ["rows.parquet", "data/train-0.parquet"])
@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pyarrow.array([1.1, 2.5], pyarrow.float32()), ["1.1", "2.5"]),
        (pyarrow.array([1.1, 1.0], pyarrow.float64()), ["1.1", "1.0"]),
        (pyarrow.array([3, 12], pyarrow.int8()), ["3", "12"]),
        (pyarrow.array([True, False]), ["true", "false"]),
        (pyarrow.array([Decimal("1.10"), Decimal("0.00")], pyarrow.decimal128(6, 2)), ["1.10", "0.00"]),
        (pyarrow.array([datetime.date(2024, 1, 31)] * 2), ["2024-01-31"] * 2),
        (pyarrow.array([datetime.datetime(2024, 1, 31)] * 2, pyarrow.timestamp("ns")), ["2024-01-31 00:00:00"] * 2),
        (pyarrow.array([b"a", b"b"], pyarrow.large_binary()), ["a", "b"]),
        (pyarrow.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_the_text_of_parquets_types(tmp_path: Path, file: str, values: pyarrow.Array, texts: list[str]) -> None:
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", "x"], "label": values}), tmp_path / file)
    assert sorted(targets(tmp_path / file if file == "rows.parquet" else tmp_path)) == sorted(texts)


def test_columns_of_parquet_that_are_not_used_may_be_anything(tmp_path: Path) -> None:
    nested = pyarrow.array([{"label": [1]}])
    table = pyarrow.table({"text": ["x"], "label": ["y"], "nested": nested, "nested.label": ["z"]})
    pyarrow.parquet.write_table(table, tmp_path / "rows[1].parquet")
    assert targets(tmp_path / "rows[1].parquet") == ["y"]
    assert targets(tmp_path / "rows[1].parquet", target="{nested.label}") == ["z"]
    with pytest.raises(DataError, match="row 0: column 'nested' holds a dict"):
        targets(tmp_path / "rows[1].parquet", target="{nested}")


def test_parquet_that_is_none(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", ROWS)
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(content[:-20])
    with pytest.raises(DataError, match=r"cannot load dataset '.*rows.parquet': ArrowInvalid: "):
        load_examples(source(tmp_path / "rows.parquet"), 0)
    (tmp_path / "rows.parquet").write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(DataError, match=r"rows.parquet', columns text, label cannot be read: "):
        load_examples(source(tmp_path / "rows.parquet"), 0)


def test_the_librarys_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copy" / "data").mkdir(parents=True)
    write_csv(tmp_path / "copy" / "data" / "train-0.csv", ROWS)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "copy" / "data" / "train-0.csv" / "cache")
    with pytest.raises(DataError, match=r"through the cache .*/cache \(HF_DATASETS_CACHE\): .*Not a directory"):
        load_examples(source(tmp_path / "copy"), 0)


def test_a_path_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file beside it that the pattern would mean, from outside and from within the working directory."""
    for folder in ("run[2]", "run2"):
        (tmp_path / folder / "data").mkdir(parents=True)
        for file in ("rows[1].csv", "rows1.csv", "rows*.csv", "rows?.csv", "data/train.csv"):
            (tmp_path / folder / file).write_text(f"text,label\nx,{folder}/{file}\ny,second\n")
    for file in ("rows[1].csv", "rows*.csv", "rows?.csv"):
        assert f"run[2]/{file}" in targets(tmp_path / "run[2]" / file)
    monkeypatch.chdir(tmp_path / "run[2]")
    assert "run[2]/rows[1].csv" in targets(Path("rows[1].csv"))
    assert "run[2]/data/train.csv" in targets(Path("data"), split="train")
    assert targets(Path("data"), split="train[:1]") == ["run[2]/data/train.csv"]
    assert "run[2]/rows[1].csv" in targets(Path("."), split="rows[1]")


def test_a_copy_of_a_hub_repository_under_a_path_that_looks_like_a_pattern(tmp_path: Path) -> None:
    for folder in ("copy[1]", "copy1"):
        (tmp_path / folder / "data").mkdir(parents=True)
        write_csv(tmp_path / folder / "data" / "train-0.csv", [{"text": "x", "label": folder}])
    assert targets(tmp_path / "copy[1]") == ["copy[1]"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["rows", "folder/train", "copy/data/train-0"])
def test_what_is_read_is_what_the_file_holds_now(tmp_path: Path, suffix: str, name: str) -> None:
    """Content of the same size and with the same time, as `touch -r` leaves it."""
    path = tmp_path / f"{name}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}[suffix]
    for label in ("old", "new"):
        write(path, [{"text": "x", "label": label}])
        os.utime(path, ns=(10**18, 10**18))
        assert targets(path if name == "rows" else tmp_path / name.split("/")[0]) == [label]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl"])
def test_compressed_files_and_upper_case_endings(tmp_path: Path, suffix: str) -> None:
    tab = "\t" if suffix == "tsv" else ","
    content = json.dumps({"text": "a, b", "label": "01"})
    if suffix.endswith("sv"):
        content = f'text{tab}label\n"a, b"{tab}01\n'
    (tmp_path / f"train.{suffix.upper()}").write_text(content)
    (tmp_path / f"test.{suffix}.gz").write_bytes(gzip.compress(content.encode()))
    for split in ("train", "test"):
        assert load_examples(source(tmp_path, split=split), 0) == [Example("a, b", "01")]
    (tmp_path / f"broken.{suffix}.gz").write_bytes(gzip.compress(content.encode())[:-10])
    with pytest.raises(DataError, match=f"cannot load dataset '.*broken.{suffix}.gz': EOFError"):
        load_examples(source(tmp_path / f"broken.{suffix}.gz"), 0)


def pack(content: bytes, suffix: str) -> bytes:
    packers = {"": bytes, ".gz": gzip.compress, ".ZST": lambda text: pyarrow.Codec("zstd").compress(text, asbytes=True)}
    return packers[suffix](content)


@pytest.mark.parametrize("suffix", ["", ".gz", ".ZST"])
def test_delimiter_encoding_and_column_names_can_be_said(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"rows.csv{suffix}").write_bytes(pack("é, a;01\n\nb;02\n".encode("cp1252"), suffix))
    read = {"delimiter": ";", "encoding": "cp1252", "column_names": ["text", "label"]}
    found = load_examples(source(tmp_path / f"rows.csv{suffix}", **read), 0)
    assert sorted((e.prompt, e.target) for e in found) == [("b", "02"), ("é, a", "01")]
    with pytest.raises(DataError, match="line 1 has 2 cells, column_names has 1"):
        targets(tmp_path / f"rows.csv{suffix}", **{**read, "column_names": ["text"]})
    (tmp_path / f"rows.jsonl{suffix}").write_bytes(pack('{"text": "é", "label": "1"}'.encode("utf-16"), suffix))
    assert load_examples(source(tmp_path / f"rows.jsonl{suffix}", encoding="utf-16"), 0) == [Example("é", "1")]
    with pytest.raises(DataError, match=r"delimiter, column_names has no effect on local data '.*rows.jsonl"):
        targets(tmp_path / f"rows.jsonl{suffix}", **read)


def test_utf8_said_and_unsaid_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("\ufefftext,label\na,1\n")
    for encoding in (None, "utf-8", "UTF8"):
        assert targets(tmp_path / "rows.csv", encoding=encoding) == ["1"]
    with pytest.raises(DataError, match=r"is not ascii; utf-8 would read '.*text,label.*', cp1252|is not ascii; utf-8"):
        targets(tmp_path / "rows.csv", encoding="ascii")


def test_how_to_read_where_it_has_no_effect(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", ROWS)
    with pytest.raises(DataError, match=r"encoding has no effect on local data '.*rows.parquet'; remove it"):
        targets(tmp_path / "rows.parquet", encoding="utf-8")
    (tmp_path / "copy" / "data").mkdir(parents=True)
    write_csv(tmp_path / "copy" / "data" / "train-0.csv", ROWS)
    with pytest.raises(DataError, match=r"delimiter has no effect on local data '.*copy'; remove it"):
        targets(tmp_path / "copy", delimiter=";")
    with pytest.raises(DataError, match=r"encoding has no effect on dataset 'owner/rows' of the Hub; remove it"):
        targets(Path("owner/rows"), encoding="utf-8")


def test_another_delimiter_is_guessed_in_words(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text;label\na;b\n")
    with pytest.raises(
        DataError, match=r"it has: text;label \(one column: if ';' parts the cells, say it as delimiter\)"
    ):
        targets(tmp_path / "rows.csv")
    assert targets(tmp_path / "rows.csv", delimiter=";") == ["b"]


def test_slices_of_a_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [{"text": "x", "label": f"0{i}"} for i in range(8)])
    for slices, rows in (("[:2]", "01"), ("[25%:50%]", "23"), ("[-1:]", "7"), ("[:1]+train[-1:]", "07")):
        assert sorted(targets(tmp_path, split=f"train{slices}")) == [f"0{row}" for row in rows]
    with pytest.raises(DataError, match=r"cannot load dataset '.*': ValueError: Unrecognized"):
        targets(tmp_path, split="train[a:b]")


def test_a_csv_of_the_hub_is_text_without_the_hub_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run made of it lies in the library's cache; here a copy of a repository stands for the Hub."""
    (tmp_path / "rows").mkdir()
    write_csv(tmp_path / "rows" / "train.csv", [{"text": "x", "label": "01"}])
    cache = tmp_path / "cache"
    datasets.load_dataset_builder(str(tmp_path / "rows"), cache_dir=str(cache), **CSV_AS_TEXT).download_and_prepare()
    (cache / "rows").rename(cache / "owner___rows")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert targets(Path("owner/rows")) == ["01"]
    with pytest.raises(DataError, match="Couldn't find cache for owner/rows for config 'main'"):
        load_examples(source("owner/rows", subset="main"), 0)


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
    with pytest.raises(
        DataError, match=r"suffix that is not known; known: \.arrow, \.csv, \.feather, \.json, \.jsonl, \.parquet"
    ):
        load_examples(source(tmp_path / "rows.xlsx"), 0)
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "empty.jsonl").write_text("")
    for name in ("empty.csv", "empty.jsonl"):
        with pytest.raises(DataError, match=f"{name}' is empty"):
            load_examples(source(tmp_path / name), 0)
    (tmp_path / "broken.json").write_text('{"text": ')
    with pytest.raises(DataError, match=r"broken.json': what begins in line 1 is no whole JSON: "):
        load_examples(source(tmp_path / "broken.json"), 0)
    write_jsonl(tmp_path / "gap.jsonl", [{"text": "a", "label": "x"}, {"text": None, "label": "x"}])
    with pytest.raises(DataError, match=r"gap.jsonl', row 1: column 'text' has no value"):
        load_examples(source(tmp_path / "gap.jsonl"), 0)


def test_a_hub_dataset_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="cannot load dataset 'no-such-owner/no-such-data': "):
        load_examples(source("no-such-owner/no-such-data", subset="main", split="train"), 0)


def test_a_misspelt_folder_is_not_trouble_with_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        load_examples(source("data/trian"), 0)
    assert str(caught.value) == (
        "cannot load dataset 'data/trian': HF_HUB_OFFLINE is set, and this machine's cache does not have it; nor is "
        f"there such a file or folder here (looked for {tmp_path}/data/trian; there is {tmp_path}/data/train)"
    )
    with pytest.raises(
        DataError, match=rf"'data/trian.jsonl' does not exist \(.*; there is {tmp_path}/data/train.jsonl"
    ):
        load_examples(source("data/trian.jsonl"), 0)


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


def test_a_generator_that_fails_at_values_that_its_configuration_lets_through() -> None:
    """With an error of any kind: what a hundred generators raise is not known beforehand."""
    from reasoning_gym.factory import DATASETS

    kind = DATASETS["family_relationships"][0]

    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no family")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "__getitem__", fails)
        message = "makes no 5 entries with seed 7 and options {.*}: ZeroDivisionError: no family"
        with pytest.raises(DataError, match=f"reasoning-gym task 'family_relationships' {message}"):
            load_examples(generated(), 0)
        patch.setattr(kind, "__init__", fails)
        with pytest.raises(DataError, match=r"'family_relationships' refuses options {.*}: no family"):
            load_examples(generated(), 0)


def test_reasoning_gym_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(DataError, match="needs a package: pip install reasoning-gym"):
        load_examples(generated(), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"I came\tpos\nI saw\tneg\nI won"\tpos\n', "line 2 has a cell with a tab or a line break: .* as jsonl"),
        ('bye\tneg\n"Hi" he said\tpos\n', r"line 3 cannot be read .*: a cell that begins with .* as jsonl"),
        ('"a\nb"\tpos\n', "line 2 has a cell with a tab or a line break"),
    ],
)
def test_quotes_in_a_tsv_join_no_rows(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + content)
    with pytest.raises(DataError, match=message):
        targets(tmp_path / "rows.tsv")
    (tmp_path / "good.tsv").write_text('text\tlabel\n"""Hi"" he said"\tpos\nI won"\tpos\n')
    examples = load_examples(source(tmp_path / "good.tsv"), 0)
    assert sorted(example.prompt for example in examples) == ['"Hi" he said', 'I won"']


def test_nor_in_a_tsv_of_a_copy_of_a_hub_repository(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-0.tsv").write_text('text\tlabel\n"I came\tpos\nI saw\tneg\nI won"\tpos\n')
    with pytest.raises(DataError, match="a cell of 'text' in its tsv has a tab or a line break: a cell that begins"):
        targets(tmp_path)


CARD = """---
dataset_info:
  features:
  - {name: text, dtype: string}
  - {name: label, dtype: {class_label: {names: {'0': NA, '1': pos}}}}
  - {name: score, dtype: float64}
  - {name: year, dtype: int64}
configs:
- config_name: default
  data_files: [{split: train, path: data/train.csv}]
---
"""


def test_empty_cells_of_a_csv_whose_card_declares_types(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "data" / "train.csv").write_text("text,label,score,year\nabc,1,0.5,\nNA,NA,,2020\n,0,,\n")
    examples = load_examples(source(tmp_path, prompt="[{text}]"), 0)
    assert sorted((e.prompt, e.target) for e in examples) == [("[NA]", "NA"), ("[]", "NA"), ("[abc]", "pos")]
    with pytest.raises(DataError, match="column 'score' has no value"):
        targets(tmp_path, prompt="[{text}]", target="{score}")
    (tmp_path / "data" / "train.csv").write_text("text,label,score,year\nabc,,1,1\n")
    assert targets(tmp_path, target="{score}") == ["1.0"]
    with pytest.raises(DataError, match="row 0 has no label"):
        targets(tmp_path)


def test_a_csv_with_declared_types_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, as the one that filled the cache was: the options must be found again."""
    (tmp_path / "rows" / "data").mkdir(parents=True)
    (tmp_path / "rows" / "README.md").write_text(CARD)
    (tmp_path / "rows" / "data" / "train.csv").write_text("text,label,score,year\nabc,1,,\n")
    cache = tmp_path / "cache"
    code = (
        "import sys, datasets\n"
        "from prunedlora.tasks.library_data import CSV_AS_DECLARED\n"
        "load = datasets.load_dataset_builder\n"
        "load(sys.argv[1], cache_dir=sys.argv[2], **CSV_AS_DECLARED).download_and_prepare()\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "rows", cache], check=True)
    (cache / "rows").rename(cache / "owner___rows")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert targets(Path("owner/rows")) == ["pos"]


@pytest.mark.parametrize("file", ["rows.csv", "data/train-0.csv"])
def test_an_empty_cell_is_an_empty_text(tmp_path: Path, file: str) -> None:
    """As in alpaca's `input`, which most rows leave empty: here all of the library's first block of 10,000."""
    (tmp_path / "data").mkdir()
    (tmp_path / file).write_text("instruction,input,label\n" + "add,,5\n" * 10_000 + "add,2 and 3,\n")
    path = tmp_path / file if file == "rows.csv" else tmp_path
    prompts = [e.prompt for e in load_examples(source(path, prompt="{instruction}: {input}", target="y{label}"), 0)]
    assert sorted(set(prompts)) == ["add: ", "add: 2 and 3"]
    with pytest.raises(DataError, match=r"row 10000: template '\{label\}' gives an empty text"):
        targets(path, prompt="{instruction}")


def test_columns_of_a_csv_that_the_library_would_type_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    names = [f"c{i}" for i in range(1001)]
    (tmp_path / "data" / "train-0.csv").write_text(f"{','.join(names)}\n{','.join(['01'] * 1001)}\n")
    assert targets(tmp_path, prompt="{c0}", target="{c999}") == ["01"]
    with pytest.raises(
        DataError, match=r"column 'c1000' is not among the first 1,000 of its csv.*give the csv file itself"
    ):
        targets(tmp_path, prompt="{c0}", target="{c1000}")
    assert targets(tmp_path / "data" / "train-0.csv", prompt="{c0}", target="{c1000}") == ["01"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "jsonl.gz", "tsv.gz", "parquet"])
def test_shards_are_the_librarys_layout(tmp_path: Path, suffix: str) -> None:
    for split, number in (("train", 2), ("test", 1)):
        for index in range(number):
            file = tmp_path / f"{split}-{index:05}-of-{number:05}.{suffix}"
            rows = [{"text": f"{split} {index}", "label": "x"}]
            if suffix == "parquet":
                write_parquet(file, rows)
                continue
            tab = "\t" if "tsv" in suffix else ","
            text = f"text{tab}label\n{split} {index}{tab}x\n" if "sv" in suffix else json.dumps(rows[0])
            file.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    assert {e.prompt for e in load_examples(source(tmp_path, split="train"), 0)} == {"train 0", "train 1"}
    assert len(load_examples(source(tmp_path, split="train[:1]"), 0)) == 1
    assert targets(tmp_path, split="train-00001-of-00002") == ["x"]
    with pytest.raises(DataError, match="has several splits, name one as split: train, test"):
        targets(tmp_path)
    with pytest.raises(DataError, match="has no split 'dev'"):
        targets(tmp_path, split="dev")
    (tmp_path / f"train-00000-of-00002.{suffix}").unlink()
    with pytest.raises(DataError, match="lacks 1 of 2 files of split 'train', the first is number 0"):
        targets(tmp_path, split="train")


def test_only_the_columns_that_are_taken_are_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train-0.jsonl", [{"text": "a", "label": "b", "page": "x" * 4_000_000}] * 2)
    before = pyarrow.total_allocated_bytes()
    table = load_folder(tmp_path, "copy", None, None, ["text", "label"])
    assert pyarrow.total_allocated_bytes() - before < 1_000_000
    assert table.column_names == ["text", "label", "page"]
    assert table.take([1], ["label"]) == {"label": ["b"]}


def test_columns_of_one_name_that_nobody_asks_for(tmp_path: Path) -> None:
    """A spreadsheet writes its empty columns as columns without a name."""
    rows = "".join(f"{row['text']},{row['label']},,\n" for row in ROWS)
    (tmp_path / "rows.csv").write_text(f"text,label,,\n{rows}")
    assert sorted(targets(tmp_path / "rows.csv")) == sorted(row["label"] for row in ROWS)


def test_half_a_character_is_told_with_its_row(tmp_path: Path) -> None:
    rows = [{"text": "fine", "label": "x"}, {"text": "not \ud800", "label": "x"}]
    for name, content in (("a.json", json.dumps(rows)), ("b.jsonl", "\n".join(map(json.dumps, rows)))):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=rf"{name}', row 1: column 'text' holds '.ud800' at character 4, half of a"):
            load_examples(source(tmp_path / name), 0)


def test_what_is_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("/dev/null", str(tmp_path / "pipe.csv")):
        with pytest.raises(DataError, match=f"data path '{name}' is neither a file nor a folder"):
            load_examples(source(name), 0)


def test_a_folder_without_data(tmp_path: Path) -> None:
    folder = tmp_path / "x.csv"
    folder.mkdir()
    with pytest.raises(DataError, match=r"folder '.*x\.csv' holds no file of data"):
        load_examples(source(folder), 0)
    (folder / "README.md").write_text("nothing here\n")
    with pytest.raises(DataError) as caught:
        load_examples(source(folder), 0)
    assert str(folder) in str(caught.value)
    assert "prunedlora-" not in str(caught.value)  # the folder of links, which is gone


def test_a_gated_dataset_says_how_to_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    response = Mock(status_code=403, headers={})
    refused = huggingface_hub.errors.GatedRepoError("no", response=response)

    def load(*_: Any, **__: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/gated' is a gated dataset on the Hub.") from refused

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    with pytest.raises(DataError, match=r"'a/gated'.* it is gated, private or not there, and .* as HF_TOKEN in the"):
        load_examples(source("a/gated", split="train"), 0)
