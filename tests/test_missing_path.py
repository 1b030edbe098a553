import os
from pathlib import Path

import pytest

from prunedlora.missing_path import looked_for


def test_where_it_was_looked_for_and_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / "data" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert (
        looked_for("data/trian.jsonl")
        == f"looked for {tmp_path}/data/trian.jsonl; there is {tmp_path}/data/train.jsonl"
    )
    assert looked_for("dat/train.jsonl") == f"looked for {tmp_path}/dat/train.jsonl; there is {tmp_path}/data"
    assert looked_for("other") == f"looked for {tmp_path}/other"
    assert looked_for("data/train.jsonl/x") == f"looked for {tmp_path}/data/train.jsonl/x"


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert looked_for(str(tmp_path / "x")) == f"looked for {tmp_path}/x"
