"""Tokens of a node: made once for all its processes, by whoever comes first."""

import errno
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from prunedlora import node_folder as node_folder_module
from prunedlora.node_folder import NodeFolderError, node_folder
from prunedlora.registry import lookup, names
from prunedlora.tasks import tokenised as file_module
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source
from prunedlora.tasks.splits import Splits, load_splits
from prunedlora.tasks.task import Task
from prunedlora.trial import token_cache
from prunedlora.trial.token_cache import SPLITS, WHAT, tokenised
from tests.tiny import make_data, minilm_folder

ANSWERS = {"metric": "exact_match", "max_new_tokens": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this node keeps its tokens."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(file_module, "PART", 7)
    return tmp_path / f"prunedlora-{os.getuid()}" / "tokens"


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    return splits_of(tmp_path)


def splits_of(folder: Path, prompt: str = "{text}", num_rows: int = 60) -> Splits:
    source = Source(str(make_data(folder / "data.csv", num_rows)), prompt, "{label}")
    return load_splits(source, None, None, num_validation=10, num_test=8, split_seed=0)


class Tokenizer:
    """One for all tests."""

    loaded: Any = None


def task_of(splits: Splits, name: str = "text_classification", **settings: Any) -> Task:
    if Tokenizer.loaded is None:
        Tokenizer.loaded = AutoTokenizer.from_pretrained(minilm_folder(), eos_token="[SEP]")
    kind = lookup("task", name)
    own = {"metric": "loss"} if "metric" not in settings else {}
    task: Task = kind.from_splits(splits, Tokenizer.loaded, **own, **settings)
    return task


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A split's name for each time that it is tokenised whole."""
    calls: list[str] = []
    write = token_cache.write_tokens

    def counted(path: Path, task: Task, examples: Any, **options: Any) -> None:
        calls.append(str(len(examples)))
        write(path, task, examples, **options)

    monkeypatch.setattr(token_cache, "write_tokens", counted)
    return calls


@pytest.mark.parametrize("prompt", ["{text}", "read {text} [MASK] and {text}"])
@pytest.mark.parametrize("max_length", [None, 9])
@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, {}) for name in names("task")), ("generation", ANSWERS), ("generation", {**ANSWERS, "stop": ("?",)})],
)
def test_features_are_those_of_encode(
    tmp_path: Path, name: str, settings: dict[str, Any], max_length: int | None, prompt: str
) -> None:
    splits = splits_of(tmp_path, prompt)
    task = task_of(splits, name, max_length=max_length, **settings)
    for _ in range(2):  # written, and read
        found = tokenised(task, splits)
        for split in SPLITS:
            expected = task.encode(getattr(splits, split))
            assert [(f.input_ids, f.targets, f.shortened) for f in found[split]] == [
                (f.input_ids, f.targets, f.shortened) for f in expected
            ]
            assert [f.example for f in found[split]] == [None if split == "train" else f.example for f in expected]


def test_the_second_finds_what_the_first_has_written(splits: Splits, encoded: list[str], folder: Path) -> None:
    for _ in range(3):
        tokenised(task_of(splits), splits)
    assert encoded == ["42", "10", "8"]
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert {file.suffix for file in folder.iterdir()} == {".arrow", ".lock"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.glob("*.arrow"))


def test_what_decides_features_decides_the_file(tmp_path: Path, splits: Splits, encoded: list[str]) -> None:
    task = task_of(splits, max_length=20)
    tokenised(task, splits)
    encoded.clear()
    tokenised(task_of(splits, max_length=20, metric="accuracy"), splits)  # how it is scored does not
    assert encoded == []
    others = splits_of(tmp_path, "{text} again")
    literal, text = splits_of(tmp_path, "{text} x"), splits_of(tmp_path, "{text} {label}")
    for other, its in (
        (task_of(splits, max_length=19), splits),
        (task_of(splits, max_length=20, labels=["front", "back"]), splits),
        (task_of(splits, "generation", max_length=20), splits),
        (task_of(splits, "generation", max_length=20, **ANSWERS), splits),
        (task_of(others, max_length=20), others),
        (task_of(literal, max_length=20), literal),
        (task_of(text, max_length=20), text),
    ):
        encoded.clear()
        tokenised(other, its)
        assert encoded == ["42", "10", "8"]


def test_one_text_from_two_templates_is_two_files() -> None:
    """Special tokens are read in the template's own part alone, so that equal texts may differ in tokens."""
    plain, meant = Example("a [SEP] b", "x"), Example("a [SEP] b", "x", prompt_literals=(" [SEP] ",))
    found = [token_cache._templates(row) for row in ([plain, meant], [meant, plain], [plain, plain])]
    assert found[0] != found[1]
    assert found[2] == [[((), ()), 2]]


def test_those_who_come_at_once_wait_for_the_first(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(splits)
    calls: list[int] = []
    write = token_cache.write_tokens

    def slowly(*given: Any, **options: Any) -> None:
        calls.append(1)
        time.sleep(0.05)
        write(*given, **options)

    monkeypatch.setattr(token_cache, "write_tokens", slowly)
    monkeypatch.setattr(type(task), "encoding", {})
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(tokenised(task, splits))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 3
    assert len({str(list(split["train"])) for split in found}) == 1
    assert len(found) == 4


def test_what_a_killed_process_or_a_crash_leaves_is_not_trusted(
    splits: Splits, encoded: list[str], folder: Path
) -> None:
    tokenised(task_of(splits), splits)
    expected = list(tokenised(task_of(splits), splits)["train"])
    for file in folder.glob("*.arrow"):
        (folder / f"{file.stem}half.part").write_bytes(file.read_bytes()[:50])
        file.write_bytes(file.read_bytes()[:-20])
    encoded.clear()
    assert list(tokenised(task_of(splits), splits)["train"]) == expected
    assert encoded == ["42", "10", "8"]


def test_texts_that_cannot_be_tokenised_leave_nothing(splits: Splits, folder: Path) -> None:
    task = task_of(splits)
    task._class = {}  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="labels that no training example has: 'back', 'front'"):
        tokenised(task, splits)
    assert {file.suffix for file in folder.iterdir()} == {".lock"}


@pytest.mark.parametrize(
    ("known", "most"), [(False, 100), (False, 20_000), (True, 100)], ids=["tokenizer", "vocabulary", "tokens"]
)
def test_a_node_without_room_says_so(
    splits: Splits, folder: Path, known: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system, so that it is the node's and not the trial's: for a tokenizer's files, the vocabulary
    among them, which is written by no Python, and for tokens."""
    task = task_of(splits)
    if known:
        monkeypatch.setattr(type(task), "encoding", {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        with pytest.raises(NodeFolderError, match=r"cannot write .* data, [\d,]+ MB are free .*TMPDIR") as caught:
            tokenised(task, splits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert isinstance(caught.value.__cause__, OSError)
    assert {file.suffix for file in folder.iterdir()} == ({".lock"} if known else set())


def test_a_folder_that_others_may_enter_is_refused(folder: Path) -> None:
    folder.parent.mkdir(mode=0o755)
    with pytest.raises(NodeFolderError, match=r"must be a folder of user \d+ .*mode 755: remove it, or let TMPDIR"):
        node_folder("tokens", WHAT)
    folder.parent.rmdir()
    elsewhere = folder.parent.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    folder.parent.symlink_to(elsewhere)
    with pytest.raises(NodeFolderError, match="must be a folder") as caught:
        node_folder("tokens", WHAT)
    assert caught.value.errno == errno.EACCES


def test_what_lies_in_the_folders_way(splits: Splits, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told as the package's own error, with what to do."""
    folder.parent.write_text("")
    with pytest.raises(NodeFolderError, match=r"must be a folder of user .*remove it, or let TMPDIR"):
        node_folder("tokens", WHAT)
    folder.parent.unlink()
    folder.parent.mkdir(mode=0o700)
    folder.write_text("")
    with pytest.raises(NodeFolderError, match=r"no folder of tokenised data \(File exists\); TMPDIR names") as caught:
        node_folder("tokens", WHAT)
    assert caught.value.errno == errno.EEXIST
    folder.unlink()
    monkeypatch.setattr(token_cache, "_key", lambda _: "key")
    (node_folder("tokens", WHAT) / "key.lock").mkdir()
    with pytest.raises(NodeFolderError, match=r"cannot write the tokenised data, .*\(Is a directory\); TMPDIR names"):
        tokenised(task_of(splits), splits)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "gone"))
    with pytest.raises(NodeFolderError, match=r"no folder of tokenised data \(No such file or directory\)"):
        node_folder("tokens", WHAT)


def test_what_nobody_opens_for_a_day_goes(splits: Splits, folder: Path, encoded: list[str]) -> None:
    tokenised(task_of(splits), splits)
    kept = tokenised(task_of(splits), splits)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    (folder / "killed.part").touch()
    os.utime(folder / "killed.part", (1, 1))
    tokenised(task_of(splits, max_length=20), splits)
    assert len(list(folder.glob("*.arrow"))) == 3
    assert not (folder / "killed.part").exists()
    assert len(list(kept["train"])) == 42  # who has it open keeps it


def test_the_oldest_go_where_there_is_too_much(
    splits: Splits, folder: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenised(task_of(splits), splits)
    monkeypatch.setattr(node_folder_module, "MOST_OF_DISK", 0.0)
    tokenised(task_of(splits, max_length=20), splits)
    assert len(list(folder.glob("*.arrow"))) == 1
