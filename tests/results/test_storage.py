import os
import threading

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prunedlora.results.storage import TEMPORARY, Storage, StoreError


@pytest.fixture
def storage(uri):
    return Storage(uri)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made here"
    (made / "deep").mkdir(parents=True)
    (made / "a.bin").write_bytes(b"\x00\xff")
    (made / "deep" / "b.txt").write_text("b")
    return made


def test_files(storage):
    assert storage.read_text("a/b.json") is None
    assert storage.names("a") == []
    storage.write_text("a/b.json", "é")
    storage.write_text("a/b.json", "ü")
    storage.append_text("a/c.log", "1\n")
    storage.append_text("a/c.log", "2\n")
    assert storage.names("a") == ["b.json", "c.log"]
    assert storage.read_texts(["a/c.log", "a/none", "a/b.json"]) == ["1\n2\n", None, "ü"]
    assert storage.read_texts([]) == []
    assert Storage(storage.uri).read_text("a/b.json") == "ü"
    assert storage.uri_of("a").endswith("/a")
    assert storage.uri_of("") == storage.uri


def test_folders(storage, folder, tmp_path):
    assert not storage.has_folder("x/1")
    assert storage.folders("x") == []
    storage.upload_folder(folder, "x/1")
    assert storage.folders("x") == ["1"]
    storage.download_folder("x/1", tmp_path / "back")
    assert (tmp_path / "back/a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "back/deep/b.txt").read_text() == "b"
    assert sorted(p.name for p in (tmp_path / "back").rglob("*")) == ["a.bin", "b.txt", "deep"]
    storage.delete_folder("x/1")
    storage.delete_folder("x/1")
    assert storage.folders("x") == []


def test_an_upload_replaces_the_whole_folder(storage, folder, tmp_path):
    storage.upload_folder(folder, "x/1")
    (folder / "a.bin").unlink()
    storage.upload_folder(folder, "x/1")
    storage.download_folder("x/1", tmp_path / "back")
    assert not (tmp_path / "back/a.bin").exists()


def test_half_an_upload_is_no_folder(tmp_path, folder, monkeypatch):
    storage = Storage("memory://half/sweep")

    def dies(*_):
        raise OSError("connection reset")

    storage.upload_folder(folder, "x/1")
    monkeypatch.setattr(MemoryFileSystem, "put_file", dies)
    with pytest.raises(StoreError, match="memory:///half/sweep/x/1: OSError: connection reset"):
        storage.upload_folder(folder, "x/1")
    assert not storage.has_folder("x/1")
    with pytest.raises(StoreError, match="half/sweep/x/1 is not in the store, or only in part"):
        storage.download_folder("x/1", tmp_path / "back")


def test_a_failed_local_upload_leaves_the_old_folder(tmp_path, folder, monkeypatch):
    storage = Storage(str(tmp_path / "store"))
    storage.upload_folder(folder, "x/1")
    monkeypatch.setattr("shutil.copytree", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(StoreError, match="x/1: OSError: disk full"):
        storage.upload_folder(folder, "x/1")
    assert storage.folders("x") == ["1"]
    assert os.listdir(tmp_path / "store/x") == ["1"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    storage.write_text("a.json", "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(StoreError, match=r"a\.json: OSError: no space left"):
        storage.write_text("a.json", "new")
    assert os.listdir(tmp_path) == ["a.json"]
    assert storage.read_text("a.json") == "old"


def test_readers_never_see_half_a_file(tmp_path):
    storage = Storage(str(tmp_path))
    texts = {letter * 200_000 for letter in "ab"}
    storage.write_text("f", "a" * 200_000)
    done = threading.Event()

    def write():
        for _ in range(20):
            for text in sorted(texts):
                storage.write_text("f", text)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert storage.read_text("f") in texts
    writer.join()


def test_leftovers_of_a_killed_writer_are_not_listed(tmp_path):
    (tmp_path / f"{TEMPORARY}0-a.json").touch()
    assert Storage(str(tmp_path)).names("") == []


def test_what_is_refused(storage, tmp_path, folder):
    with pytest.raises(StoreError, match=r"'\.\./x' does not lie inside the store"):
        storage.read_text("../x")
    with pytest.raises(StoreError, match="'/etc' does not lie inside the store"):
        storage.write_text("/etc", "")
    with pytest.raises(StoreError, match=r"nowhere is no folder and cannot be stored as .*/x"):
        storage.upload_folder(tmp_path / "nowhere", "x")
    with pytest.raises(StoreError, match=r"'ftps3://x' cannot be used: .*[Pp]rotocol"):
        Storage("ftps3://x")


def test_storage_errors_name_path_and_reason(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff")
    storage = Storage(str(tmp_path))
    with pytest.raises(StoreError, match=r"file/sub\.json: .*Error: "):
        storage.write_text("file/sub.json", "")
    with pytest.raises(StoreError, match="file: UnicodeDecodeError: "):
        storage.read_text("file")
    (tmp_path / "dir").mkdir()
    with pytest.raises(StoreError, match="dir: IsADirectoryError"):
        storage.read_text("dir")


def test_errors_of_object_stores_are_named_and_own_mistakes_are_not_hidden(tmp_path):
    class CredentialsError(Exception):
        pass

    class Sealed(MemoryFileSystem):
        protocol = "sealed"

        def pipe_file(self, *_, **__):
            raise CredentialsError("no credentials")

    fsspec.register_implementation("sealed", Sealed, clobber=True)
    with pytest.raises(StoreError, match=r"sealed://.*/a: CredentialsError: no credentials"):
        Storage("sealed://b").write_text("a", "")
    with pytest.raises(AttributeError):
        Storage(str(tmp_path)).write_text("a", None)  # type: ignore[arg-type]
