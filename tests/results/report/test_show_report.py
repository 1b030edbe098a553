"""`prunedlora report`: what it prints, where it writes, and what it does with a store that it may only read."""

import json
import os
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.results.storage import NotAllowedError, Storage, StoreError

FILES = {"report.html", "report.json", "front.json", "front.csv", "candidates.csv", "front.png"}


def asked(*arguments):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def store(fill, record, candidate):
    """The smaller by parameters is the larger by its file."""
    return fill(record("a1", candidate(0.9, 100, file_bytes=10)), record("b2", candidate(0.9, 50, file_bytes=20)))


def test_it_writes_into_the_store_and_says_where(store):
    printed = asked(store.uri)
    assert {path.name for path in Path(store.uri, "report").iterdir()} == FILES
    assert f"Report: {store.uri}/report/report.html\n" in printed.stdout
    assert printed.stderr == ""


def test_to_writes_there_and_nothing_into_the_store(store, tmp_path):
    before = contents(store.uri)
    printed = asked(store.uri, "--to", tmp_path / "elsewhere")
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == FILES
    assert f"Report: {tmp_path}/elsewhere/report.html\n" in printed.stdout
    assert contents(store.uri) == before


def test_to_may_be_an_object_store(store):
    printed = asked(store.uri, "--to", "memory://reports/demo")
    written = Storage("memory://reports/demo")
    assert f"Report: {written.uri}/report.html\n" in printed.stdout
    assert set(written.names("")) == FILES


def test_json_is_the_content_of_report_json_and_nothing_else(store, tmp_path):
    printed = asked(store.uri, "--json", "--to", tmp_path / "elsewhere")
    assert printed.stdout == (tmp_path / "elsewhere" / "report.json").read_text()
    assert json.loads(printed.stdout)["sweep"]
    assert printed.stderr == ""
    assert asked(store.uri, "--json").stdout == Path(store.uri, "report", "report.json").read_text()


def test_another_size_leaves_the_report_of_the_sweep_alone(store):
    asked(store.uri)
    before = contents(store.uri)
    printed = asked(store.uri, "--size-axis", "file_bytes")
    assert "Recommended: a1@10" in printed.stdout
    assert f"Report: {store.uri}/report/file_bytes/report.html\n" in printed.stdout
    after = contents(store.uri)
    assert after.keys() - before.keys() == {f"report/file_bytes/{name}" for name in FILES}
    assert {name: after[name] for name in before} == before
    front = json.loads(after["report/file_bytes/front.json"])
    assert front["objectives"] == {"accuracy": "maximize", "file_bytes": "minimize"}


def test_the_size_of_the_sweep_is_no_other_size(store):
    assert f"Report: {store.uri}/report/report.html\n" in asked(store.uri, "--size-axis", "adapter_params").stdout
    assert {path.name for path in Path(store.uri, "report").iterdir()} == FILES


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), PermissionError(13, "Permission denied")])
def test_a_store_that_is_read_only_is_shown_and_says_so(error, store, monkeypatch, tmp_path):
    """What the system says to any write below the store."""
    before, replace = contents(store.uri), os.replace

    def refuse(origin, target):
        if str(target).startswith(store.uri):
            raise error
        replace(origin, target)

    monkeypatch.setattr(os, "replace", refuse)
    printed = asked(store.uri)
    assert "Recommended: b2@10" in printed.stdout
    assert "Report: " not in printed.stdout
    assert f"Adapter: {store.uri}/trials/b2/adapters/10\n" in printed.stdout
    assert f"{store.uri} is read-only, no report was written: --to FOLDER writes it elsewhere" in printed.stderr
    assert contents(store.uri) == before
    as_json = asked(store.uri, "--json")
    assert json.loads(as_json.stdout)["sweep"]
    assert "is read-only" in as_json.stderr
    elsewhere = asked(store.uri, "--to", tmp_path / "elsewhere")
    assert f"Report: {tmp_path}/elsewhere/report.html\n" in elsewhere.stdout
    assert elsewhere.stderr == ""


class AnswerError(Exception):
    """As gcsfs and aiohttp tell what a server answered: by an attribute."""

    def __init__(self, **answer):
        super().__init__(f"answered {answer}")
        vars(self).update(answer)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("Access Denied"),  # s3fs
        OSError("Forbidden: https://storage.googleapis.com/upload/…\nno storage.objects.create access"),  # gcsfs, 403
        AnswerError(code=401),  # gcsfs, without a login
        AnswerError(status=405),  # fsspec over HTTP
        AnswerError(status=501),  # the same, Python's own server
        NotImplementedError(),  # fsspec: a file system that writes nothing
    ],
    ids=repr,
)
def test_an_object_store_that_is_read_only(error, store, monkeypatch):
    """Its package says so without the system's number."""
    copy = Storage("memory://read-only/sweep")
    for name, content in contents(store.uri).items():
        copy.write_bytes(name, content)

    def refuse(self, path, *_, **__):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    printed = asked(copy.uri)
    assert "Recommended: b2@10" in printed.stdout
    assert f"{copy.uri} is read-only, no report was written" in printed.stderr


@pytest.mark.parametrize(
    "error", [OSError("Connection reset"), AnswerError(code=500), AnswerError(status=503)], ids=repr
)
def test_an_object_store_in_trouble_is_not_called_read_only(error, monkeypatch):
    def fail(self, path, *_, **__):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(StoreError) as raised:
        Storage("memory://trouble").write_text("a.txt", "")
    assert not isinstance(raised.value, NotAllowedError)


def test_a_store_that_cannot_be_written_for_another_reason_is_an_error(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = CliRunner().invoke(app, ["report", store.uri])
    assert result.exit_code == 2
    assert "Recommended: b2@10" in result.stdout
    assert "No space left on device" in result.stderr
    with pytest.raises(StoreError, match="No space left") as raised:
        store.storage.write_text("a.txt", "")
    assert not isinstance(raised.value, NotAllowedError)


@pytest.mark.parametrize(
    ("to", "message"), [("", "error: --to is empty"), (" ", "error: --to is empty"), ("FILE", "FileExistsError")]
)
def test_a_folder_that_cannot_be_written_is_an_error(to, message, store, tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["report", store.uri, "--to", to.replace("FILE", str(tmp_path / "file"))])
    assert result.exit_code == 2
    assert message in result.stderr


def test_to_a_folder_that_we_may_not_write_is_an_error_too(store, monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    result = CliRunner().invoke(app, ["report", store.uri, "--to", str(tmp_path / "elsewhere")])
    assert result.exit_code == 2
    assert "PermissionError" in result.stderr
    assert "--to FOLDER" not in result.stderr
