"""Arrow's formats, lines of text and folders of save_to_disk: each as `datasets` itself reads it."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.feather
import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import read_table
from prunedlora.tasks.sources import Source, load_examples

ROWS = [{"text": f"text {i}", "label": "even" if i % 2 == 0 else "odd"} for i in range(12)]
LABELS = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["even", "odd"])})


def source(name: object, **fields: Any) -> Source:
    return Source(**{"name": str(name), "prompt": "{text}", "target": "{label}", **fields})


def texts(name: object, **fields: Any) -> list[tuple[str, str]]:
    return sorted((example.prompt, example.target) for example in load_examples(source(name, **fields), 0))


EXPECTED = sorted((row["text"], row["label"]) for row in ROWS)


def test_arrows_formats(tmp_path: Path) -> None:
    """A file, a stream, and a shard of `datasets` with class labels; packed in itself, not by gzip."""
    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.ipc.new_file(tmp_path / "file.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    with pyarrow.ipc.new_stream(tmp_path / "stream.ARROW", table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    pyarrow.feather.write_feather(table, str(tmp_path / "rows.feather"), compression="zstd")
    saved = datasets.Dataset.from_list(ROWS).cast_column("label", datasets.ClassLabel(names=["even", "odd"]))
    saved.save_to_disk(str(tmp_path / "saved"))
    shard = next((tmp_path / "saved").glob("*.arrow"))
    for path in (tmp_path / "file.arrow", tmp_path / "stream.ARROW", tmp_path / "rows.feather", shard):
        assert texts(path) == EXPECTED
        with pytest.raises(DataError, match="encoding has no effect on local data"):
            texts(path, encoding="utf-8")
    (tmp_path / "rows.arrow.gz").write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(
        DataError, match=r"suffix that is not known; known: .*; all but \.arrow, \.feather and \.parquet"
    ):
        texts(tmp_path / "rows.arrow.gz")


def test_columns_of_arrow_that_are_not_used_may_be_anything(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "label": ["x", "y"], "set": pyarrow.array(["p", "q"]).dictionary_encode()}
    table = pyarrow.table(columns).append_column("label2", [["u", "v"]]).rename_columns(["text", "label", "set", "set"])
    with pyarrow.ipc.new_file(tmp_path / "rows.arrow", table.schema) as writer:
        writer.write_table(table)
    assert texts(tmp_path / "rows.arrow") == [("a", "x"), ("b", "y")]
    with pytest.raises(DataError, match="several columns are called 'set'"):
        texts(tmp_path / "rows.arrow", prompt="{set}")


@pytest.mark.parametrize("content", [b"", b"text,label\n", b"ARROW1\0\0half", None])
def test_arrow_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rows.arrow"
    if content is None:  # cut off
        table = pyarrow.Table.from_pylist(ROWS)
        with pyarrow.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
        content = path.read_bytes()[:-40]
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"dataset '.*rows\.arrow': it is no whole file of Arrow's file or stream format"
    ):
        texts(path)


@pytest.mark.parametrize("content", ["a\nb", "a\n\n  b \n", "\n", "a\r\nb\rc\n", "a\u2028b\x0bc\n", ""])
def test_lines_of_text_are_those_of_datasets(tmp_path: Path, content: str) -> None:
    """But blank ones, which it has as empty texts."""
    path = tmp_path / "rows.txt"
    path.write_bytes(content.encode())
    table = read_table(path)
    found = table.take(range(table.num_rows), ["text"])["text"]
    if content:
        library = datasets.Dataset.from_text(str(path), cache_dir=str(tmp_path / "cache"))
        assert found == [line for line in library["text"][:] if line.strip()]
    assert table.column_names == ["text"]
    assert len(found) == table.num_rows


def test_text_packed_and_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "rows.txt.gz").write_bytes(gzip.compress("\ufeffä\nb\n".encode()))
    (tmp_path / "rows.txt").write_bytes("b\nä\n".encode("cp1252"))
    for path, fields in ((tmp_path / "rows.txt.gz", {}), (tmp_path / "rows.txt", {"encoding": "cp1252"})):
        assert texts(path, target="{text}", **fields) == [("b", "b"), ("ä", "ä")]
    with pytest.raises(
        DataError, match=r"rows\.txt': byte 2 \(0xe4\), in line 2, is not utf-8; cp1252 would read 'b.*ä"
    ):
        texts(tmp_path / "rows.txt")
    with pytest.raises(DataError, match="delimiter has no effect on local data"):
        texts(tmp_path / "rows.txt", delimiter=";")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=r"empty\.txt' is empty"):
        texts(tmp_path / "empty.txt")
    (tmp_path / "gap.txt").write_text("a\n\n \nb\n")
    assert [example.target for example in load_examples(Source(str(tmp_path / "gap.txt")), 0)] == ["a", "b"]


def test_a_text_file_in_a_folder_is_a_split_where_it_is_named(tmp_path: Path) -> None:
    """README.txt and licences lie beside the data."""
    (tmp_path / "README.txt").write_text("about\n")
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "dev.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert texts(tmp_path) == [("text 0", "even")]
    assert len(texts(tmp_path, split="train[:2]", target="{text}")) == 2
    with pytest.raises(DataError, match="has no split 'test'; it has: dev"):
        texts(tmp_path, split="test")


def test_a_folder_of_save_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = datasets.Dataset.from_list(ROWS, features=LABELS)
    made.with_format("numpy", columns=["text"]).save_to_disk(str(tmp_path / "one"), num_shards=3)
    assert texts(tmp_path / "one") == EXPECTED
    with pytest.raises(DataError, match=r"one' has no split 'train'$"):
        texts(tmp_path / "one", split="train")
    named = datasets.Dataset.from_list(ROWS, features=LABELS, split=datasets.Split.TRAIN)
    parts = datasets.DatasetDict(train=named, test=made.select([1, 2]))
    parts.save_to_disk(str(tmp_path / "several"))
    monkeypatch.chdir(tmp_path)
    assert texts("several", split="train") == EXPECTED
    assert texts("./several", split="test") == [("text 1", "odd"), ("text 2", "even")]
    assert len(texts("several", split="train[:25%]")) == 3
    assert texts("several/train", split="train") == EXPECTED  # it is saved with its name
    for fields, message in (
        ({}, "dataset 'several' has several splits, name one as split: train, test"),
        ({"split": "dev"}, "'several' has no split 'dev'; it has: train, test"),
        ({"split": "test", "revision": "main", "subset": "x"}, "revision, subset has no effect on local data"),
        ({"split": "test", "encoding": "utf-8"}, "encoding has no effect on local data 'several'"),
    ):
        with pytest.raises(DataError, match=message):
            texts("several", **fields)


def test_a_folder_of_save_to_disk_that_is_not_whole(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"), num_shards=2)
    shutil.copytree(tmp_path / "saved", tmp_path / "broken")
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"cannot load dataset '.*saved': .*data-00001-of-00002\.arrow"):
        texts(tmp_path / "saved")
    (tmp_path / "broken" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot load dataset '.*broken': JSONDecodeError"):
        texts(tmp_path / "broken")
