import datetime
from decimal import Decimal

import numpy as np
import pytest

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.templates import parse


def test_columns_are_filled_in_and_doubled_braces_stay() -> None:
    template = parse("{{{Review Text}}} of {a.b}, {a.b}: {n}")
    assert template.columns == ["Review Text", "a.b", "n"]
    assert template.fill({"Review Text": "good", "a.b": 1.5, "n": 0}) == "{good} of 1.5, 1.5: 0"


def test_values_are_not_read_as_templates() -> None:
    assert parse("{q}").fill({"q": "{x} {{y}}"}) == "{x} {{y}}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (10**20, "100000000000000000000"),
        (1.0, "1.0"),
        (True, "true"),
        (False, "false"),
        (np.float32(1.1), "1.1"),
        (np.float16(0.1), "0.1"),
        (np.float64(1.1), "1.1"),
        (Decimal("1.10"), "1.10"),
        (Decimal("0E-8"), "0.00000000"),
        (Decimal("1E+2"), "100"),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (datetime.datetime(2024, 1, 31, 5, 6), "2024-01-31 05:06:00"),
        (datetime.time(5, 6), "05:06:00"),
        ("é".encode(), "é"),
    ],
)
def test_the_text_of_a_value(value: object, text: str) -> None:
    assert parse("{q}").fill({"q": value}) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{q} \ud83d", "holds '.ud83d' at character 4, half of a character"),
        ("{question", "template '{question' is malformed: expected '}' before end of string"),
        ("{}", "template '{}': braces must hold a column name and nothing else"),
        ("{q!r}", "braces must hold a column name"),
        ("{q:>10}", "braces must hold a column name"),
        ("question", "template 'question' names no column"),
        ("{{question}}", "names no column"),
    ],
)
def test_bad_templates(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("{", r"\{").replace("}", r"\}")):
        parse(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "column 'q' has no value"),
        (float("nan"), "column 'q' has no value"),
        (np.float32("nan"), "column 'q' has no value"),
        (b"\xff", "column 'q' holds bytes that are no text in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        (datetime.timedelta(1), "column 'q' holds a timedelta"),
        (["a"], "column 'q' holds a list; a text is made of text and numbers"),
        (" \n", r"template ' \{q\}' gives an empty text"),
    ],
)
def test_bad_values(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(" {q}").fill({"q": value})
