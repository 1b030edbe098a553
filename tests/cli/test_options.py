"""Options with a fixed set of values: help lists them, and another one is refused with the list."""

import pytest
from typer.testing import CliRunner

from prunedlora.adapters.repack import DTYPES
from prunedlora.cli import app
from prunedlora.cli.options import Dtype, Slot
from prunedlora.servers.served_slot import NUMBER_BYTES, SERVED_SLOTS
from prunedlora.sizes import Size

CHOICES = [
    ("report", "--size-axis", Size),
    ("recommend", "--size-axis", Size),
    ("recommend", "--served-slot", Slot),
    ("export", "--dtype", Dtype),
    ("export", "--served-slot", Slot),
    ("serving", "--dtype", Dtype),
    ("serving", "--max-lora-rank", Slot),
]


def test_choices_are_what_the_package_knows() -> None:
    assert set(Dtype) == DTYPES.keys() == NUMBER_BYTES.keys()
    assert tuple(map(int, Slot)) == SERVED_SLOTS


@pytest.mark.parametrize(("verb", "option", "choices"), CHOICES)
def test_help_lists_them(
    verb: str, option: str, choices: type[Size] | type[Dtype] | type[Slot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, [verb, "--help"]).stdout
    [line] = [line for line in shown.splitlines() if option in line]
    assert "|".join(choices) in line


@pytest.mark.parametrize(("verb", "option", "choices"), CHOICES)
def test_another_value_is_refused_with_the_list(
    verb: str, option: str, choices: type[Size] | type[Dtype] | type[Slot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, [verb, "store", option, "bytes"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for '{option}'" in result.stderr
    assert ", ".join(f"'{choice}'" for choice in choices) in result.stderr
