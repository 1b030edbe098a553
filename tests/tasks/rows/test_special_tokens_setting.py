"""The source's word on special tokens that its rows spell."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from prunedlora.config.source_section import SourceConfig
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.sources import Source, load_examples
from prunedlora.tasks.splits import load_splits


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"<end>{n}"}) + "\n" for n in range(6)))
    return str(path)


def test_it_reaches_the_examples_and_their_fingerprint(rows: str) -> None:
    prints = set()
    for value in (None, True, False):
        source = Source(**SourceConfig(name=rows, special_tokens=value).model_dump())
        assert [example.special_tokens for example in load_examples(source, 0)] == [value] * 6
        prints.add(load_splits(source, None, None, 1, 1, 0).fingerprint)
    assert len(prints) == 3


def test_where_it_has_no_effect(tmp_path: Path) -> None:
    with pytest.raises(
        ValidationError, match="special_tokens has no effect beside prompt and target: it is for text and"
    ):
        SourceConfig(name="a.csv", prompt="{a}", target="{b}", special_tokens=False)
    with pytest.raises(
        ValidationError, match="special_tokens has no effect on rows of format 'messages': it is for text"
    ):
        SourceConfig(name="a.jsonl", format="messages", special_tokens=True)
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}))
    with pytest.raises(
        DataError, match=r"pairs.jsonl': special_tokens has no effect on rows of format 'prompt_completi"
    ):
        load_examples(Source(str(path), special_tokens=True), 0)
