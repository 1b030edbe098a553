"""A folder that cannot be made is told before any work; what was made is gone where the work fails."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.delivery import candidate_export
from prunedlora.delivery.form import ExportError
from prunedlora.delivery.new_folder import new_folder
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.store import Store

STORE = Path(__file__).parents[1] / "stores" / "376ef23" / "store"


def test_it_is_filled_or_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.txt").write_text("a")
    with new_folder(tmp_path / "x" / "y") as fill:
        fill(tmp_path / "made")
    assert (tmp_path / "x" / "y" / "a.txt").read_text() == "a"
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "x" / "v" / "w"):
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]
    with pytest.raises(ExportError, match="x exists; give a new folder"), new_folder(tmp_path / "x"):
        pass
    assert (tmp_path / "x" / "y" / "a.txt").exists()


def test_a_disk_that_is_full_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "made").mkdir()
    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(ExportError, match=r"x cannot be written: .*No space left"), new_folder(tmp_path / "x") as fill:
        fill(tmp_path / "made")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("folder", ["/proc/nope/x", "FILE/x"])
def test_export_into_a_folder_that_cannot_be_made(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object) -> None:
        raise AssertionError("work before the folder is there")

    monkeypatch.setattr(candidate_export, "fetch_adapter", fetched)
    (tmp_path / "file").write_text("")
    to = folder.replace("FILE", str(tmp_path / "file"))
    record, _ = find_candidate(Store(str(STORE)), "best")
    done = CliRunner().invoke(app, ["export", str(STORE), record.key, "--to", to])
    assert done.exit_code == 2, done.output
    assert f"error: {to} cannot be made: " in done.stderr


@pytest.mark.parametrize("verb", [["report"], ["compare", "--by", "adapter.method"]])
def test_report_and_compare_into_a_folder_that_cannot_be_made(verb: list[str]) -> None:
    done = CliRunner().invoke(app, [*verb, str(STORE), "--to", "/proc/nope/x"])
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert "error: /proc/nope/x: FileNotFoundError" in done.stderr
