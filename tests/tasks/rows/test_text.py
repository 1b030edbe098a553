from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.tasks.example import Example, Segment

Read = Callable[..., Example]
Refusal = Callable[..., str]


def test_a_text_is_all_target(read: Read) -> None:
    expected = Example("", " Once\n", segments=(Segment(" Once\n", True),))
    assert read({"text": " Once\n", "url": "x"}) == expected
    assert read({"story": " Once\n", "text": "x"}, fields={"text": "story"}, format="text") == expected
    assert expected.unit == " Once\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, " has no value"),
        (" ", ": is an empty text"),
        (["x"], " holds a list; a text is made of text and numbers, dates and times"),
    ],
)
def test_bad_texts(refusal: Refusal, text: Any, message: str) -> None:
    assert refusal({"text": text}, {"text": "x"}) == f"dataset 'rows.jsonl', row 1, column 'text'{message}"
