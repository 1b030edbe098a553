"""What rows are for, by the names and the contents of their columns: classes, answers, or a format that is known."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.sweep.init_error import InitError
from prunedlora.sweep.shrink_base import CLASSIFICATION, GENERATION
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.rows.known_formats import PREFERENCES, ROW_FORMATS, row_reader
from prunedlora.tasks.rows.row import Names
from prunedlora.tasks.templates import parse

LABELS = (
    "label_text", "label_name", "label", "labels", "class", "category", "intent", "topic", "sentiment", "emotion",
    "relation", "coarse_label", "fine_label",
)  # fmt: skip
"""Names of columns that hold a class, the likeliest first."""
TEXTS = (
    "text", "sentence", "content", "utterance", "review", "document", "tweet", "comment", "message", "query",
    "question", "body", "description", "abstract", "title",
)  # fmt: skip
PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("text_a", "text_b"),
)  # fmt: skip
"""Two texts that a class is of."""
ANSWERS = (
    ("question", "answer"), ("question", "response"), ("problem", "solution"), ("problem", "answer"),
    ("query", "response"), ("query", "answer"), ("prompt", "response"), ("prompt", "answer"),
    ("instruction", "response"), ("input", "output"), ("input", "target"), ("source", "target"),
)  # fmt: skip
"""What is asked and what is to be written."""
MOST_CLASSES = 200
LEAST_OF_A_CLASS = 4
"""Rows a class, on average, by which a column is one of classes."""
MOST_NUMBERS = 20
"""Different numbers of a column up to which they may be names of classes, fractions among them too."""
NO_NAME = "{}:!"
"""What a template cannot name a column by."""


@dataclass(frozen=True)
class Reader:
    """What of a model decides how rows are written out for it."""

    writes: bool
    """Whether it is a causal language model."""
    separator: str | None
    """Its token between two texts."""
    has_chat_template: bool


@dataclass(frozen=True)
class Recognised:
    task: str
    fields: Mapping[str, str]
    """Of the source: prompt and target, or format; empty where the columns say the format."""
    words: str
    """By what it was recognised, for a comment."""
    is_asked: bool = False
    """Whether the templates are a question and its answer, which a chat template can write out."""


def recognise(
    columns: Sequence[str],
    values: Mapping[str, Sequence[Any]],
    reader: Reader,
    *,
    task: str | None = None,
    prompt: str | None = None,
    target: str | None = None,
    row_format: str | None = None,
) -> Recognised:
    """How rows with these columns are learnt. `values`: those of some rows; the others, as far as somebody said them.

    Raises InitError where it cannot be told, naming the columns; DataError for columns that fit several formats of rows
    or are preferences.
    """
    if prompt is not None and target is not None:
        for option, template in (("--prompt", prompt), ("--target", target)):
            _check_template(option, template, columns)
        return _of_templates(prompt, target, values, reader, task)
    if row_format is not None:
        return Recognised(GENERATION, {"format": row_format}, f"rows of format {row_format}, as asked")
    classes = None if task == GENERATION else _classes(columns, values, reader, surely=task == CLASSIFICATION)
    found = None if task == CLASSIFICATION else _rows(columns)
    if found is not None and (found != "text" or classes is None):
        return Recognised(GENERATION, {}, f"rows of format {found}, known by {_columns(ROW_FORMATS[found].required)}")
    if classes is not None:
        return classes
    if task != CLASSIFICATION and (pair := _named(columns, ANSWERS)) is not None:
        return _answers(*pair, reader)
    raise InitError(_unknown(columns, task))


def _rows(columns: Sequence[str]) -> str | None:
    """The format of rows that the columns fit, if any."""
    fits = any(all(column in columns for column in known.required) for known in ROW_FORMATS.values())
    if not fits and not any(all(column in columns for column in preference) for preference in PREFERENCES):
        return None
    return row_reader(None, columns, Names({}, {}), None).format.name


def _classes(
    columns: Sequence[str], values: Mapping[str, Sequence[Any]], reader: Reader, *, surely: bool
) -> Recognised | None:
    """`surely`: classes are asked for. Else answers to questions count as classes only for a model that cannot write
    them."""
    label = _first(columns, LABELS)
    texts: tuple[str, ...] | None = None
    if label is not None:
        one = _first([column for column in columns if column != label], TEXTS)
        texts = _named(columns, PAIRS) or (None if one is None else (one,))
    pair = _named(columns, ANSWERS)
    if (texts is None or label is None) and pair is not None and (surely or not reader.writes):
        if has_classes(values[pair[1]]):
            texts, label = pair[:1], pair[1]
    elif (texts is None or label is None) and pair is None and len(columns) == 2:
        for one, other in (tuple(columns), tuple(reversed(columns))):
            if has_classes(values[other]) and not has_classes(values[one]):
                texts, label = (one,), other
    if texts is None or label is None:
        return None
    _check_names((*texts, label))
    _check_label(label, values[label])
    between = f" {reader.separator} " if reader.separator is not None else "\n"
    prompt = between.join(f"{{{text}}}" for text in texts)
    words = f"classes in {_columns([label])}, of {_columns(texts)}"
    return Recognised(CLASSIFICATION, {"prompt": prompt, "target": f"{{{label}}}"}, words)


def _answers(asked: str, answer: str, reader: Reader) -> Recognised:
    _check_names((asked, answer))
    words = f"answers in {_columns([answer])} to {_columns([asked])}"
    if reader.has_chat_template:
        fields = {"prompt": f"{{{asked}}}", "target": f"{{{answer}}}"}
    else:  # the space before an answer is part of its first token for most tokenizers
        fields = {"prompt": f"{{{asked}}}\nAnswer:", "target": f" {{{answer}}}"}
    return Recognised(GENERATION, fields, words, is_asked=True)


def _of_templates(
    prompt: str, target: str, values: Mapping[str, Sequence[Any]], reader: Reader, task: str | None
) -> Recognised:
    fields = {"prompt": prompt, "target": target}
    if task is None:
        columns = parse(target).columns
        is_class = target == f"{{{columns[0]}}}" and has_classes(values[columns[0]])
        task = CLASSIFICATION if is_class else GENERATION
    if task == CLASSIFICATION:
        for column in parse(target).columns:
            _check_label(column, values[column])
    what = "classes" if task == CLASSIFICATION else "answers"
    return Recognised(task, fields, f"{what}, by the templates that were given", is_asked=False)


def has_classes(values: Sequence[Any]) -> bool:
    """Whether a column's values look like names of classes: few, and each of many rows."""
    different = {str(value) for value in values}
    return 2 <= len(different) <= min(MOST_CLASSES, len(values) // LEAST_OF_A_CLASS)


def _check_template(option: str, template: str, columns: Sequence[str]) -> None:
    """Raises InitError for one that names no column of the data, or another besides."""
    there = f"the columns are {', '.join(columns)}"
    try:
        named = parse(template).columns
    except DataError as error:
        raise InitError(f"{option}: {error}; {there}") from error
    if missing := [column for column in named if column not in columns]:
        raise InitError(f"{option} {template!r} names {missing[0]!r}, which is no column of the data: {there}")


def _check_names(columns: Sequence[str]) -> None:
    """Raises InitError for a column that no template can name."""
    for column in columns:
        if mark := next((mark for mark in NO_NAME if mark in column), None):
            raise InitError(
                f"column {column!r} has {mark!r} in its name, which no template can name: rename it in the data"
            )


def _check_label(column: str, values: Sequence[Any]) -> None:
    """Raises InitError for numbers that are measured, and no names of classes."""
    different = {str(value) for value in values}
    if len(different) <= MOST_NUMBERS or not all(map(_is_number, different)):
        return
    are_whole = all(float(value).is_integer() for value in different)
    if not are_whole or len(different) > min(MOST_CLASSES, len(values) // 2):
        raise InitError(
            f"column {column!r} holds numbers, {len(different):,} different ones in {len(values):,} rows: to learn "
            "them as numbers (regression) is no task here; round them or put them into a few bins, which are classes, "
            "or name another column by --prompt and --target"
        )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _first(columns: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_name: Callable[[str], str | None] = {column.lower(): column for column in reversed(columns)}.get
    return next((found for name in wanted if (found := by_name(name)) is not None), None)


def _named(columns: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    for one, other in pairs:
        found = _first(columns, [one]), _first(columns, [other])
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {' and '.join(map(repr, names))}"


def _unknown(columns: Sequence[str], task: str | None) -> str:
    known = "; ".join(f"{name} ({', '.join(each.required)})" for name, each in ROW_FORMATS.items())
    what = "classes" if task == CLASSIFICATION else "what is asked and what is to be answered, or classes,"
    if len(columns) == 1 and (mark := next((mark for mark in ";\t|," if mark in columns[0]), None)):
        shown = "$'\\t'" if mark == "\t" else f"'{mark}'"
        return f"the data have one column, {columns[0]!r}: if {mark!r} parts the cells, give --delimiter {shown}"
    return (
        f"the columns ({', '.join(columns)}) do not tell {what} by their names: give templates, as --prompt '{{text}}' "
        f"--target '{{label}}'" + ("" if task == CLASSIFICATION else f", or rows of a known format: {known}")
    )
