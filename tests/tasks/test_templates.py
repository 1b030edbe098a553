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
    ("text", "message"),
    [
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
        (["a"], "column 'q' holds a list; templates take text and numbers"),
        (" \n", r"template ' \{q\}' gives an empty text"),
    ],
)
def test_bad_values(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(" {q}").fill({"q": value})
