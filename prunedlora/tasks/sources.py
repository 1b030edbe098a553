"""Sources of examples: datasets of the Hub, local files and folders, and generated reasoning-gym tasks.

Imports neither torch nor a tokenizer: an example is texts.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import SPELLING, Example
from prunedlora.tasks.file_formats import Reading
from prunedlora.tasks.generated_data import GENERATED, generate
from prunedlora.tasks.library_data import load_from_hub
from prunedlora.tasks.local_data import load_local, local_path
from prunedlora.tasks.rows.known_formats import possible_columns, row_reader
from prunedlora.tasks.rows.nested_values import is_nothing, json_value
from prunedlora.tasks.rows.row import Names
from prunedlora.tasks.table import Table
from prunedlora.tasks.templates import Template, parse


@dataclass(frozen=True)
class Source:
    """Where the examples of one split come from: the fields of the configuration's data source, which explains them."""

    name: str
    prompt: str | None = None
    target: str | None = None
    format: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None
    weight: float = 1.0
    score_columns: Sequence[str] = ()
    subset: str | None = None
    revision: str | None = None
    split: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    num_examples: int | None = None
    group: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    column_names: Sequence[str] | None = None
    special_tokens: bool | None = None


def load_examples(source: Source, shuffle_seed: int) -> list[Example]:
    """The examples of a source, in an order that is the same on every machine.

    Generated ones come in the generator's order. All others are shuffled by `shuffle_seed` before the first
    `num_examples` are taken: files are often sorted by label, and a part of them must still be a fair sample.

    An empty text is a value: an empty cell of a csv, "" in JSON. None (null, NaN) is not.

    Raises DataError: source not found or not readable, unknown split, reasoning-gym task or option, missing column,
    missing value, a prompt, target or group without any text, no examples, or fewer than `num_examples`; columns that
    fit no format, or several; and what the format refuses in a row (rows/).
    """
    if source.name.startswith(GENERATED):
        return _generated(source)
    table = _load(source, _possible_columns(source))
    if table.num_rows == 0:
        raise DataError(f"dataset {source.name!r} is empty")
    maker = _maker(source, table.column_names)
    wanted = table.num_rows if source.num_examples is None else source.num_examples
    if wanted > table.num_rows:
        raise DataError(f"dataset {source.name!r} has {table.num_rows} rows, num_examples asks for {wanted}")
    chosen = sorted(range(table.num_rows), key=partial(shuffle_key, shuffle_seed))[:wanted]
    values = _take(source, table, chosen, maker.columns)
    return [
        maker.example({column: found[index] for column, found in values.items()}, row)
        for index, row in enumerate(chosen)
    ]


def load_prompts(source: Source, most: int) -> list[str]:
    """The prompts of the first rows of a source, `most` or as many as there are: what a trained model may read. Of rows
    of a format all their texts, which it reads as well.

    The target's template, and what today's reader makes of targets, do not matter. Raises DataError as `load_examples`
    for what it needs.
    """
    asked = replace(source, group=None, score_columns=())
    if source.prompt is not None:
        asked = replace(asked, target=source.prompt)
    if source.name.startswith(GENERATED):
        number = most if source.num_examples is None else min(most, source.num_examples)
    else:
        number = min(most, _load(source, _possible_columns(asked)).num_rows)
    return [_read_text(example) for example in load_examples(replace(asked, num_examples=max(number, 1)), 0)]


def _read_text(example: Example) -> str:
    """What of an example a model may read, as one text."""
    if example.conversation is not None:
        return "\n".join(message["content"] for message in example.conversation.messages if message.get("content"))
    if example.segments is not None:
        return "".join(segment.text for segment in example.segments)
    return example.prompt


def shuffle_key(seed: int, item: object) -> bytes:
    """Sort key of a seeded shuffle. A hash, not a random generator: equal for all versions of Python and numpy."""
    return hashlib.sha256(f"{seed}:{item}".encode()).digest()


def _take(source: Source, table: Table, rows: list[int], columns: list[str]) -> dict[str, list[Any]]:
    try:
        return table.take(rows, columns)
    except DataError as error:
        raise DataError(f"dataset {source.name!r}, {error}") from error


@dataclass(frozen=True)
class _Maker:
    """Makes examples of the rows of one source."""

    source: Source
    columns: list[str]
    """Those that it needs."""
    read: Callable[[Mapping[str, Any]], Example]
    """The example without its place, group and further columns."""
    group: Template | None

    def example(self, values: Mapping[str, Any], row: int) -> Example:
        """The example of a row, given as column → value. Raises DataError, which names dataset and row."""
        place = f"dataset {self.source.name!r}, row {row}"
        try:
            return replace(
                self.read(values),
                place=place,
                special_tokens=self.source.special_tokens,
                group=None if self.group is None else self.group.fill(values),
                columns={column: _kept(values[column], column) for column in self.source.score_columns},
            )
        except DataError as error:
            raise DataError(f"{place}{': ' if self.source.prompt is not None else ', '}{error}") from error


def _possible_columns(source: Source) -> list[str]:
    """The columns that its examples may be made of; rows of a format need not have all of them."""
    texts = (source.prompt, source.target, source.group)
    of_templates = [column for text in texts if text is not None for column in parse(text).columns]
    of_rows = possible_columns(_names(source)) if source.prompt is None else []
    return list(dict.fromkeys([*of_templates, *of_rows, *source.score_columns]))


def _maker(source: Source, columns: list[str]) -> _Maker:
    """The maker for rows with these columns. Raises DataError where they do not fit the source's fields."""
    group = None if source.group is None else parse(source.group)
    needed = [*(() if group is None else group.columns), *source.score_columns]
    if source.prompt is None:
        try:
            rows = row_reader(source.format, columns, _names(source), source.system)
        except DataError as error:
            raise DataError(f"dataset {source.name!r}: {error}{_delimiter_hint(columns)}") from error
        if source.special_tokens is not None and rows.format.name not in SPELLING:
            raise DataError(
                f"dataset {source.name!r}: special_tokens has no effect on rows of format {rows.format.name!r}: it is "
                f"for {' and '.join(SPELLING)}; remove it"
            )
        needed, read = [*rows.columns, *needed], rows.read
    else:
        assert source.target is not None  # the two go together
        prompt, target = parse(source.prompt), parse(source.target)
        needed = [*prompt.columns, *target.columns, *needed]
        read = partial(_of_templates, prompt, target, source.system)
    if missing := sorted(set(needed) - set(columns)):
        raise DataError(
            f"dataset {source.name!r} has no column {', '.join(missing)}; it has: {', '.join(columns)}"
            f"{_delimiter_hint(columns)}"
        )
    return _Maker(source, list(dict.fromkeys(needed)), read, group)


def _names(source: Source) -> Names:
    return Names(source.fields, source.roles)


def _of_templates(prompt: Template, target: Template, system: str | None, values: Mapping[str, Any]) -> Example:
    return Example(
        prompt.fill(values),
        target.fill(values),
        prompt_literals=prompt.literals,
        target_literals=target.literals,
        system=system,
    )


def _kept(value: Any, column: str) -> Any:
    """The value of a further column. Raises DataError for one that JSON has not: it goes into records."""
    return None if is_nothing(value) else json_value(value, f"column {column!r}")


def _delimiter_hint(columns: list[str]) -> str:
    if len(columns) == 1 and (found := next((mark for mark in ";\t|," if mark in columns[0]), None)):
        return f" (one column: if {found!r} parts the cells, say it as delimiter)"
    return ""


def _load(source: Source, columns: list[str]) -> Table:
    path = local_path(source.name)
    names = None if source.column_names is None else tuple(source.column_names)
    reading = Reading(source.delimiter, source.encoding, names)
    if path is None:
        if unused := reading.unused(""):
            raise DataError(f"{', '.join(unused)} has no effect on dataset {source.name!r} of the Hub; remove it")
        return load_from_hub(source.name, source.subset, source.split, source.revision)
    return load_local(path, source.name, source.subset, source.split, source.revision, columns, reading)


def _generated(source: Source) -> list[Example]:
    if source.prompt is None:
        raise DataError(
            f"dataset {source.name!r} is generated and has no rows of a format: give prompt and target, as "
            "'{question}' and '{answer}'"
        )
    examples = []
    for row, (columns, score) in enumerate(generate(source.name, source.options, source.seed, source.num_examples)):
        example = _maker(source, list(columns)).example(columns, row)
        examples.append(replace(example, verifier=score))
    return examples
