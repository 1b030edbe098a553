"""What users call things is printed as it is."""

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.plain_print import print_plain

ODD = "out[v2] [bold]x[/bold] [/] :key: 12"


def test_it_is_printed_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=20, force_terminal=True)
    print_plain(console, f"{ODD} {'long ' * 20}")
    assert console.file.getvalue() == f"{ODD} {'long ' * 20}\n"  # type: ignore[attr-defined]


def test_errors_are_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    result = CliRunner().invoke(app, ["report", str(tmp_path / "a[v2]:key:")])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path}/a[v2]:key: is no store")


@pytest.mark.parametrize("name", ["out[v2]", "out:key:"])
def test_export_names_its_folder(name, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from tests.delivery.test_new_folder import STORE

    to = tmp_path / name
    result = CliRunner().invoke(app, ["export", str(STORE), "best", "--to", str(to), "--no-check"])
    assert result.exit_code == 0, result.output
    assert f"Adapter: {to}\n" in result.stdout
    assert (to / "adapter_model.safetensors").is_file()
