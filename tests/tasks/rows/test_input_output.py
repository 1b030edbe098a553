import json
from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.tasks.example import Example, Segment

Read = Callable[..., Example]
Refusal = Callable[..., str]

SEGMENTS = [
    {"label": True, "text": "<s>Hello\n"},
    {"label": False, "text": "you. "},
    {"label": True, "text": "Bye"},
    {"label": False, "text": "!"},
]


def test_segments_are_kept_as_they_are(read: Read) -> None:
    expected = Example(
        "<s>Hello\nyou. ",
        "Bye",
        segments=(Segment("<s>Hello\n", True), Segment("you. ", False), Segment("Bye", True), Segment("!", False)),
    )
    assert read({"segments": SEGMENTS}) == expected
    assert read({"segments": json.dumps(SEGMENTS)}) == expected
    own = [{"learn": segment["label"], "says": segment["text"]} for segment in SEGMENTS]
    assert read({"parts": own}, fields={"segments": "parts", "label": "learn", "text": "says"}) == expected


def test_where_the_first_segment_is_the_only_trained_one_the_target_tells_examples_apart(read: Read) -> None:
    example = read({"segments": SEGMENTS[:1]})
    assert (example.prompt, example.unit) == ("", "<s>Hello\n")


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (None, " has no value; write a list of segments"),
        ("x", ": is a text and no JSON (Expecting value: line 1 column 1 (char 0)): 'x'; write a list of segments"),
        ([], ": no segment has a true label, so there is nothing to learn"),
        (SEGMENTS[1:2], ": no segment has a true label, so there is nothing to learn"),
        ([*SEGMENTS, "x"], ", segment 4: is a text; write a list of segments, [{'label': true, 'text': '…'}, …]"),
        ([{"label": 1, "text": "x"}], ", segment 0: its label is a number; true is trained, false is not"),
        ([{"text": "x"}], ", segment 0: its label is nothing (null); true is trained, false is not"),
        ([{"label": True}], ", segment 0: its text is nothing (null); write a list of segments"),
        ([{"label": True, "text": ""}], ", segment 0: its text is empty; write a list of segments"),
        ([{"label": True, "text": "\ud83d"}], r", segment 0, text holds '\ud83d' at character 0, half of a character"),
    ],
)
def test_bad_segments(refusal: Refusal, segments: Any, message: str) -> None:
    found = refusal({"segments": segments}, {"segments": SEGMENTS})
    assert found.startswith(f"dataset 'rows.jsonl', row 1, column 'segments'{message}")
