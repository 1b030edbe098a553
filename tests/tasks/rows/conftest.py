"""Rows written to a file as people have them, and read back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source, load_examples


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Example]:
    """The example of one row, out of a jsonl file."""

    def one(row: dict[str, Any], **fields: Any) -> Example:
        (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
        [example] = load_examples(Source(str(tmp_path / "rows.jsonl"), **fields), 0)
        return example

    return one


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is said of a row, which stands after another that has nothing wrong."""
    monkeypatch.chdir(tmp_path)

    def one(row: dict[str, Any], good: dict[str, Any] | None = None, **fields: Any) -> str:
        rows = [row] if good is None else [good, row]
        Path("rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        with pytest.raises(DataError) as caught:
            load_examples(Source("rows.jsonl", **fields), 0)
        return str(caught.value)

    return one
