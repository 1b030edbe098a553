import errno
import os
import threading

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from prunedlora.results.storage import TEMPORARY, NotAllowedError, Storage, StoreError


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


def create_together(storages, path):
    start, outcomes = threading.Barrier(len(storages)), []

    def create(number, storage):
        start.wait()
        outcomes.append((number, storage.create_text(path, f"by {number}")))

    threads = [threading.Thread(target=create, args=each) for each in enumerate(storages)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [number for number, created in outcomes if created]


def test_of_many_that_create_a_file_one_does(storage):
    for turn in range(10):
        winners = create_together([Storage(storage.uri) for _ in range(8)], f"asks/{turn}")
        assert len(winners) == 1
        assert storage.read_text(f"asks/{turn}") == f"by {winners[0]}"
    assert storage.names("asks") == sorted(map(str, range(10)))


def test_a_file_that_is_there_stays(storage):
    assert storage.create_text("a/b", "old")
    assert not storage.create_text("a/b", "new")
    assert storage.create_text("a/b", "old")  # the answer to our own write was lost, and it was made again
    assert storage.read_text("a/b") == "old"


@pytest.mark.parametrize("kind", [errno.EPERM, errno.EOPNOTSUPP])
def test_creating_where_there_are_no_hard_links(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(kind, "no links")))
    assert len(create_together([Storage(str(tmp_path)) for _ in range(8)], "a")) == 1
    assert os.listdir(tmp_path) == ["a"]


def test_creating_on_a_full_disk_is_no_dispute(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StoreError, match=r"/a: OSError: \[Errno 28\] No space left on device"):
        Storage(str(tmp_path)).create_text("a", "")
    assert os.listdir(tmp_path) == []


def test_a_link_whose_answer_was_lost_over_nfs(tmp_path, monkeypatch):
    real = os.link

    def twice(source, target):
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert Storage(str(tmp_path)).create_text("a", "x")


@pytest.mark.parametrize("fault", ["no such parameter", "refuses the condition"])
def test_creating_where_there_is_no_conditional_write(monkeypatch, fault):
    """Packages of before there was one, and servers that answer it with an error of their own."""
    real = MemoryFileSystem.pipe_file

    def old(self, path, value):
        real(self, path, value)

    def refusing(self, path, value, mode="overwrite"):
        if mode == "create":
            raise OSError("501 NotImplemented")
        real(self, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", old if fault == "no such parameter" else refusing)
    storage = Storage(f"memory://old {fault}")
    assert storage.create_text("a", "x")
    assert not storage.create_text("a", "y")
    assert storage.read_text("a") == "x"


def test_a_file_that_was_remembered_as_missing_is_found_once_its_folder_is_read(tmp_path, monkeypatch):
    """What an NFS client does: a name that it looked up before stays missing until it reads the folder."""
    storage = Storage(str(tmp_path))
    storage.write_text("trials/k/record.json", "there")
    remembered = {"record.json"}
    cat, ls = LocalFileSystem.cat_file, LocalFileSystem.ls

    def cat_file(self, path, *rest, **named):
        if os.path.basename(path) in remembered:
            raise FileNotFoundError(path)
        return cat(self, path, *rest, **named)

    def listed(self, path, **named):
        remembered.clear()
        return ls(self, path, **named)

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    monkeypatch.setattr(LocalFileSystem, "ls", listed)
    assert storage.read_text("trials/k/record.json") is None
    assert storage.read_awaited_text("trials/k/record.json") == "there"
    assert storage.read_awaited_text("trials/none/record.json") is None


def test_what_may_not_be_looked_at_is_not_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "stat", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(NotAllowedError, match=r"sweep\.yaml: PermissionError: \[Errno 13\] Permission denied"):
        Storage(str(tmp_path)).exists("sweep.yaml")


def test_a_root_that_cannot_be_written_is_told_before_anything_is(tmp_path, monkeypatch):
    deep = Storage(str(tmp_path / "a/b"))
    deep.check_writable()
    assert os.listdir(tmp_path) == []
    Storage("memory://anywhere/at all").check_writable()
    monkeypatch.setattr("prunedlora.results.storage.LEAST_BYTES", 2**80)
    with pytest.raises(StoreError, match=r"a/b: OSError: .* is full: \d+ bytes are left"):
        deep.check_writable()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NotAllowedError, match=rf"a/b: PermissionError: {tmp_path} may not be written \(by user \d+\)"):
        deep.check_writable()
    monkeypatch.undo()
    (tmp_path / "a").write_text("")
    with pytest.raises(StoreError, match=r"a/b: (NotADirectoryError|PermissionError): .*/a "):
        deep.check_writable()


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


def test_a_file_system_that_holds_no_files_is_not_full():
    with pytest.raises(StoreError, match="OSError: /proc is in a file system without any space for files"):
        Storage("/proc/store").check_writable()
