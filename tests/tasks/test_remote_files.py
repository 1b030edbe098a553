"""Files elsewhere: fetched whole, once per node, and anew once they have changed there."""

import errno
import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import constants

from prunedlora.tasks import remote_files
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.remote_files import address_problem, fetch, file_name, hub_file
from prunedlora.tasks.sources import Source, load_examples
from tests.delivery.hub import logged_in, running_hub

ROWS = "".join(json.dumps({"text": f"text {i}", "label": "x"}) + "\n" for i in range(5)).encode()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this node keeps what it fetches."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    forget(monkeypatch)
    return tmp_path / f"prunedlora-{os.getuid()}" / "data"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process of this node begins."""
    monkeypatch.setattr(remote_files, "_FETCHED", {})


@dataclass
class Web:
    """A server of files."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    marks: bool = True
    cut: int = 0
    """Bytes left out at the end of every answer."""
    gets: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            content = web.files.get(path)
            status = web.status.get(path, 404 if content is None else 200)
            body = (content or b"") if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if web.marks and status == 200:
                self.send_header("ETag", hashlib.sha256(body).hexdigest())
            self.end_headers()
            if self.command == "GET":
                web.gets.append(path)
                self.wfile.write(body[: len(body) - web.cut])

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{serving.server_port}"
    thread = Thread(target=serving.serve_forever, args=(0.02,))
    thread.start()
    yield web
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def web(server: Web) -> Web:
    server.files, server.status, server.marks, server.cut, server.gets = {}, {}, True, 0, []
    return server


def source(name: str) -> Source:
    return Source(name, prompt="{text}", target="{label}")


def test_a_file_of_a_web_server_is_fetched_once_per_node(
    web: Web, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files = {"/a/rows.jsonl.gz": gzip.compress(ROWS), "/rows.jsonl": ROWS}
    packed = load_examples(source(f"{web.url}/a/rows.jsonl.gz?download=true"), 0)
    assert packed == load_examples(source(f"{web.url}/rows.jsonl"), 0)
    assert sorted(example.prompt for example in packed) == [f"text {i}" for i in range(5)]
    for _ in range(2):  # this process again, and another one
        assert load_examples(source(f"{web.url}/rows.jsonl"), 0) == packed
        forget(monkeypatch)
    assert web.gets == ["/a/rows.jsonl.gz", "/rows.jsonl"]
    assert sorted(file.suffix for file in folder.iterdir() if file.suffix != ".lock") == [".gz", ".jsonl"]


@pytest.mark.parametrize("marks", [True, False])
def test_what_has_changed_there_is_fetched_again_by_the_next_process(
    web: Web, marks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process sees one content; a server that tells no state is asked for the content each time."""
    web.files, web.marks = {"/rows.txt": b"one"}, marks
    name = f"{web.url}/rows.txt"
    assert fetch(name).read_bytes() == b"one"
    web.files = {"/rows.txt": b"two"}
    assert fetch(name).read_bytes() == b"one"
    forget(monkeypatch)
    assert fetch(name).read_bytes() == b"two"
    fetch(name).unlink()  # by whoever tidies this node
    assert fetch(name).read_bytes() == b"two"


def test_what_a_web_server_refuses(web: Web, folder: Path) -> None:
    web.status = {"/closed.csv": 403}
    with pytest.raises(
        DataError, match=r"cannot fetch 'http.*/none\.csv': ClientResponseError: 404, .*'Not Found'"
    ) as e:
        fetch(f"{web.url}/none.csv")
    assert isinstance(e.value.__cause__, OSError)  # the network's, or the file's owner's: no trial's fault
    with pytest.raises(DataError, match=r"'http.*/closed\.csv': .*403, .*; access is refused: give every node cred"):
        fetch(f"{web.url}/closed.csv")
    with pytest.raises(DataError, match=r"cannot fetch 'http://127\.0\.0\.1:9/a\.csv': .*[Cc]onnect"):
        fetch("http://127.0.0.1:9/a.csv")
    assert not [file for file in folder.iterdir() if file.suffix == ".csv"]


def test_half_a_file_is_no_file(web: Web, folder: Path) -> None:
    web.files, web.cut = {"/rows.txt": b"x" * 100}, 10
    with pytest.raises(DataError, match=r"cannot fetch 'http.*/rows\.txt': "):
        fetch(f"{web.url}/rows.txt")
    assert {file.suffix for file in folder.iterdir()} == {".lock"}
    web.cut = 0
    assert fetch(f"{web.url}/rows.txt").read_bytes() == b"x" * 100


class Bucket(MemoryFileSystem):
    """Objects in memory under another name, which can be cut off or changed while they are read, and closed."""

    protocol = "bucket"
    store: dict[str, object] = {}  # noqa: RUF012  # as its parent has it, for all instances
    pseudo_dirs = [""]  # noqa: RUF012
    trouble: str | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("bucket:/"))

    def get_file(self, rpath: str, lpath: str, **more: object) -> None:
        super().get_file(rpath, lpath, **more)
        if self.trouble == "cut":
            os.truncate(lpath, 3)
        elif self.trouble == "changed":
            self.pipe_file(rpath, b"other")
        elif self.trouble == "closed":
            raise PermissionError("Forbidden")
        elif self.trouble == "full":
            raise OSError(errno.ENOSPC, "No space left on device")


fsspec.register_implementation("bucket", Bucket, clobber=True)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("cut", "OSError: 3 bytes came of 7"),
        ("changed", "OSError: it changed while it was read"),
        ("closed", "PermissionError: Forbidden; access is refused: give every node credentials"),
        ("full", "No space left on device"),
    ],
)
def test_an_object_that_cannot_be_read_whole(
    folder: Path, trouble: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.filesystem("bucket").pipe_file("/b/rows.txt", b"one\ntwo")
    monkeypatch.setattr(Bucket, "trouble", trouble)
    with pytest.raises(DataError, match=message) as caught:
        fetch("bucket://b/rows.txt")
    assert isinstance(caught.value.__cause__, OSError)
    assert {file.suffix for file in folder.iterdir()} == {".lock"}


def test_objects_and_their_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = fsspec.filesystem("bucket")
    bucket.pipe_file("/b/with space [1].jsonl", ROWS)
    assert len(load_examples(source("bucket://b/with space [1].jsonl"), 0)) == 5
    bucket.pipe_file("/b/with space [1].jsonl", ROWS + ROWS)
    forget(monkeypatch)
    assert len(load_examples(source("bucket://b/with space [1].jsonl"), 0)) == 10
    bucket.pipe_file("/b/folder.csv/part.csv", b"")
    with pytest.raises(DataError, match=r"'bucket://b/folder\.csv' is a folder; name the file of each split"):
        fetch("bucket://b/folder.csv")
    with pytest.raises(DataError, match=r"cannot fetch 'bucket://b/none\.csv': FileNotFoundError"):
        fetch("bucket://b/none.csv")


def test_packages_and_protocols_that_are_not_there() -> None:
    for protocol, package, extra in (("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")):
        if find_spec(package) is None:
            ask = rf"needs a package that is not installed: pip install 'prunedlora\[{extra}\]' on every node"
            with pytest.raises(DataError, match=f"'{protocol}://b/rows.csv' {ask}") as caught:
                fetch(f"{protocol}://b/rows.csv")
            assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(DataError, match=r"'s4://b/rows\.csv' cannot be read: Protocol not known: s4"):
        fetch("s4://b/rows.csv")


def test_what_addresses_mean() -> None:
    assert file_name("https://h/a%20b/rows.csv.gz?x=/y.json#z") == "rows.csv.gz"
    assert file_name("s3://b/a?b#c.csv") == "a?b#c.csv"
    assert hub_file("hf://datasets/o/r/data/x.csv") == ("o/r", None, "data/x.csv")
    for revision in ("v1", "refs/convert/parquet", "a/b@c"):
        found = hub_file(hub_file("hf://datasets/o/r/x.csv").at(revision))  # type: ignore[union-attr]
        assert found == ("o/r", revision, "x.csv")
    assert hub_file("hf://datasets/o/r@refs/pr/3/x.csv") == ("o/r", "refs/pr/3", "x.csv")
    assert hub_file("s3://datasets/o/r/x.csv") is None
    assert address_problem("hf://datasets/o/r@main/x.parquet") is None
    for name in ("hf://o/r/x.csv", "hf://datasets/o/r", "hf://datasets/r/x.csv"):
        assert f"{name!r} is no file of a dataset on the Hub, hf://datasets/owner/name/path" in str(
            address_problem(name)
        )
    assert "'s3://b/f' has a suffix that is not known, and a folder is not read from elsewhere; known: .arrow" in str(
        address_problem("s3://b/f")
    )
    with pytest.raises(DataError, match="suffix that is not known"):
        fetch("s3://b/f")


def test_a_file_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "a" * 40, "b" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with running_hub() as hub:
        logged_in(monkeypatch, hub, tmp_path)
        hub.heads = {"datasets/o/r": first, "datasets/o/r@v2": second}
        hub.resolved = {f"datasets/o/r@{first}/d/x.txt": b"one", f"datasets/o/r@{second}/d/x.txt": b"two"}
        assert fetch("hf://datasets/o/r/d/x.txt").read_bytes() == b"one"
        for revision in ("v2", second):
            assert fetch(f"hf://datasets/o/r@{revision}/d/x.txt").read_bytes() == b"two"
        with pytest.raises(DataError, match=r"cannot fetch 'hf://datasets/o/r/d/y\.txt': .*404"):
            fetch("hf://datasets/o/r/d/y.txt")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    forget(monkeypatch)
    assert fetch("hf://datasets/o/r/d/x.txt").read_bytes() == b"one"
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set, and this machine's cache does not have it"):
        fetch("hf://datasets/o/r/z.txt")
