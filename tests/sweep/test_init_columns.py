"""What columns are recognised as, by names and contents; or refused, naming them."""

from typing import Any

import pytest

from prunedlora.sweep.init_columns import Reader, has_classes, recognise
from prunedlora.sweep.init_error import InitError
from prunedlora.tasks.data_error import DataError

ENCODER = Reader(writes=False, separator="[SEP]", has_chat_template=False)
BASE = Reader(writes=True, separator=None, has_chat_template=False)
CHAT = Reader(writes=True, separator=None, has_chat_template=True)
FEW = ["front", "back"] * 20
MANY = [f"text {number}" for number in range(40)]

TOLD: dict[str, tuple[dict[str, Any], Reader, dict[str, Any], tuple[str, dict[str, str]]]] = {
    "text and label": (
        {"text": MANY, "label": FEW}, ENCODER, {}, ("text_classification", {"prompt": "{text}", "target": "{label}"})
    ),
    "whatever the case, and beside others": (
        {"id": MANY, "Text": MANY, "Label": FEW, "label_text": FEW}, BASE, {},
        ("text_classification", {"prompt": "{Text}", "target": "{label_text}"}),
    ),
    "two texts, for an encoder": (
        {"premise": MANY, "hypothesis": MANY, "label": FEW}, ENCODER, {},
        ("text_classification", {"prompt": "{premise} [SEP] {hypothesis}", "target": "{label}"}),
    ),
    "two texts, for a model without a separator": (
        {"sentence1": MANY, "sentence2": MANY, "label": FEW}, BASE, {},
        ("text_classification", {"prompt": "{sentence1}\n{sentence2}", "target": "{label}"}),
    ),
    "names that say nothing, by contents": (
        {"b": FEW, "a": MANY}, ENCODER, {}, ("text_classification", {"prompt": "{a}", "target": "{b}"})
    ),
    "few answers, for a model that writes": (
        {"question": MANY, "answer": FEW}, CHAT, {}, ("generation", {"prompt": "{question}", "target": "{answer}"})
    ),
    "few answers, for one that does not": (
        {"question": MANY, "answer": FEW}, ENCODER, {},
        ("text_classification", {"prompt": "{question}", "target": "{answer}"}),
    ),
    "few answers, where classes are asked for": (
        {"question": MANY, "answer": FEW}, CHAT, {"task": "text_classification"},
        ("text_classification", {"prompt": "{question}", "target": "{answer}"}),
    ),
    "answers without a chat template": (
        {"question": MANY, "answer": MANY}, BASE, {},
        ("generation", {"prompt": "{question}\nAnswer:", "target": " {answer}"}),
    ),
    "messages": ({"messages": MANY, "label": FEW}, CHAT, {}, ("generation", {})),
    "alpaca": ({"instruction": MANY, "input": MANY, "output": MANY}, CHAT, {}, ("generation", {})),
    "plain text": ({"text": MANY, "source": MANY}, CHAT, {}, ("generation", {})),
    "text whose label is not asked for": (
        {"text": MANY, "label": FEW}, CHAT, {"task": "generation"}, ("generation", {})
    ),
    "a format that is asked for": (
        {"text": MANY, "messages": MANY}, CHAT, {"row_format": "text"}, ("generation", {"format": "text"})
    ),
    "templates of classes": (
        {"a": MANY, "b": FEW}, BASE, {"prompt": "{a}", "target": "{b}"},
        ("text_classification", {"prompt": "{a}", "target": "{b}"}),
    ),
    "templates of answers": (
        {"a": MANY, "b": FEW}, BASE, {"prompt": "{a}", "target": " {b}"},
        ("generation", {"prompt": "{a}", "target": " {b}"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_what_is_recognised(case: str) -> None:
    values, reader, asked, (task, fields) = TOLD[case]
    found = recognise(list(values), values, reader, **asked)
    assert (found.task, found.fields) == (task, fields)


def test_columns_that_tell_nothing_are_named() -> None:
    values = {"x": MANY, "y": MANY}
    with pytest.raises(InitError, match=r"the columns \(x, y\) do not tell what is asked .*--prompt '\{text\}'"):
        recognise(["x", "y"], values, CHAT)
    with pytest.raises(InitError, match=r"the columns \(messages\) do not tell classes by their names"):
        recognise(["messages"], {"messages": MANY}, CHAT, task="text_classification")


def test_preferences_and_several_formats_are_told_as_ever() -> None:
    with pytest.raises(DataError, match="are preferences"):
        recognise(["chosen", "rejected"], {"chosen": MANY, "rejected": MANY}, CHAT)
    with pytest.raises(DataError, match="fit 2 formats: messages, alpaca"):
        recognise(["messages", "instruction", "output"], {}, CHAT, task="generation")


def test_classes_are_few_and_of_many_rows() -> None:
    assert has_classes(FEW)
    assert not has_classes(["front"] * 40), "one class is none"
    assert not has_classes(MANY)
    assert not has_classes([])


def test_one_column_may_be_several() -> None:
    for column, said in (("text;label", "--delimiter ';'"), ("text\tlabel", "--delimiter $'\\t'")):
        with pytest.raises(InitError) as caught:
            recognise([column], {column: MANY}, CHAT)
        assert str(caught.value).endswith(said)


def test_templates_name_columns_of_the_data() -> None:
    values = {"a": MANY, "b": FEW}
    for prompt, target, said in (
        ("a", "{b}", r"--prompt: template 'a' names no column; .*; the columns are a, b"),
        ("{a}", "b", r"--target: template 'b' names no column; .*; the columns are a, b"),
        ("{a} {A}", "{b}", r"--prompt '\{a\} \{A\}' names 'A', which is no column of the data: the columns are a, b"),
    ):
        for task in (None, "text_classification"):
            with pytest.raises(InitError, match=said):
                recognise(["a", "b"], values, CHAT, prompt=prompt, target=target, task=task)


def test_numbers_that_are_measured_are_no_classes() -> None:
    scores, counts = [f"{number / 7:.3f}" for number in range(40)], [*range(40)]
    for column in (scores, counts):
        values = {"text": MANY, "label": column}
        with pytest.raises(
            InitError, match=r"column 'label' holds numbers, 40 different ones in 40 rows: .*regression"
        ):
            recognise(["text", "label"], values, ENCODER)
        given = {"prompt": "{text}", "target": "{label}", "task": "text_classification"}
        with pytest.raises(InitError, match="regression"):
            recognise(["text", "label"], values, ENCODER, **given)
    numbered = {"text": MANY * 2, "label": [*range(30), *range(30), *range(20)]}
    assert recognise(["text", "label"], numbered, ENCODER).task == "text_classification"
    halves = {"text": MANY, "label": ["0.5", "1.0", "1.5", "2.0"] * 10}
    assert recognise(["text", "label"], halves, ENCODER).task == "text_classification"


def test_a_column_that_no_template_can_name_is_named() -> None:
    for name in ("te{xt", "a:b"):
        with pytest.raises(InitError, match=f"column '{name}' has .* in its name, which no template can name"):
            recognise([name, "label"], {name: MANY, "label": FEW}, ENCODER)
