"""Sources of examples: datasets of the Hub, local files and folders, and generated reasoning-gym tasks.

Imports neither torch nor a tokenizer: an example is two texts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.file_formats import Reading
from prunedlora.tasks.generated_data import GENERATED, generate
from prunedlora.tasks.library_data import load_from_hub
from prunedlora.tasks.local_data import load_local, local_path
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


def load_examples(source: Source, shuffle_seed: int) -> list[Example]:
    """The examples of a source, in an order that is the same on every machine.

    Generated ones come in the generator's order. All others are shuffled by `shuffle_seed` before the first
    `num_examples` are taken: files are often sorted by label, and a part of them must still be a fair sample.

    An empty text is a value: an empty cell of a csv, "" in JSON. None (null, NaN) is not.

    Raises DataError: source not found or not readable, unknown split, reasoning-gym task or option, missing column,
    missing value, a prompt, target or group without any text, no examples, or fewer than `num_examples`.
    """
    if source.prompt is None:
        raise DataError(f"dataset {source.name!r}: prompt and target are missing")
    templates = tuple(parse(text) for text in (source.prompt, source.target, source.group) if text is not None)
    if source.name.startswith(GENERATED):
        return _generated(source, templates)
    columns = list(dict.fromkeys(column for template in templates for column in template.columns))
    table = _load(source, columns)
    if table.num_rows == 0:
        raise DataError(f"dataset {source.name!r} is empty")
    _check_columns(source, table.column_names, *templates)
    wanted = table.num_rows if source.num_examples is None else source.num_examples
    if wanted > table.num_rows:
        raise DataError(f"dataset {source.name!r} has {table.num_rows} rows, num_examples asks for {wanted}")
    chosen = sorted(range(table.num_rows), key=partial(shuffle_key, shuffle_seed))[:wanted]
    values = _take(source, table, chosen, columns)
    return [
        _example(source, templates, {column: found[index] for column, found in values.items()}, row)
        for index, row in enumerate(chosen)
    ]


def load_prompts(source: Source, most: int) -> list[str]:
    """The prompts of the first rows of a source, `most` or as many as there are: what a trained model may read.

    The target's template, and what today's reader makes of targets, do not matter. Raises DataError as `load_examples`
    for what it needs.
    """
    if source.prompt is None:
        raise DataError(f"dataset {source.name!r}: prompt and target are missing")
    if source.name.startswith(GENERATED):
        number = most if source.num_examples is None else min(most, source.num_examples)
    else:
        number = min(most, _load(source, parse(source.prompt).columns).num_rows)
    asked = replace(source, target=source.prompt, group=None, num_examples=max(number, 1))
    return [example.prompt for example in load_examples(asked, shuffle_seed=0)]


def shuffle_key(seed: int, item: object) -> bytes:
    """Sort key of a seeded shuffle. A hash, not a random generator: equal for all versions of Python and numpy."""
    return hashlib.sha256(f"{seed}:{item}".encode()).digest()


def _take(source: Source, table: Table, rows: list[int], columns: list[str]) -> dict[str, list[Any]]:
    try:
        return table.take(rows, columns)
    except DataError as error:
        raise DataError(f"dataset {source.name!r}, {error}") from error


def _example(source: Source, templates: tuple[Template, ...], values: Mapping[str, Any], row: int) -> Example:
    """`templates`: of prompt and target, and of the group where there are groups."""
    try:
        prompt, target, *group = (template.fill(values) for template in templates)
        return Example(
            prompt,
            target,
            group=group[0] if group else None,
            prompt_literals=templates[0].literals,
            target_literals=templates[1].literals,
        )
    except DataError as error:
        raise DataError(f"dataset {source.name!r}, row {row}: {error}") from error


def _check_columns(source: Source, columns: list[str], *templates: Template) -> None:
    missing = sorted({column for template in templates for column in template.columns} - set(columns))
    if missing:
        hint = ""
        if len(columns) == 1 and (found := next((mark for mark in ";\t|," if mark in columns[0]), None)):
            hint = f" (one column: if {found!r} parts the cells, say it as delimiter)"
        raise DataError(
            f"dataset {source.name!r} has no column {', '.join(missing)}; it has: {', '.join(columns)}{hint}"
        )


def _load(source: Source, columns: list[str]) -> Table:
    path = local_path(source.name)
    names = None if source.column_names is None else tuple(source.column_names)
    reading = Reading(source.delimiter, source.encoding, names)
    if path is None:
        if unused := reading.unused(""):
            raise DataError(f"{', '.join(unused)} has no effect on dataset {source.name!r} of the Hub; remove it")
        return load_from_hub(source.name, source.subset, source.split, source.revision)
    return load_local(path, source.name, source.subset, source.split, source.revision, columns, reading)


def _generated(source: Source, templates: tuple[Template, ...]) -> list[Example]:
    examples = []
    for row, (columns, score) in enumerate(generate(source.name, source.options, source.seed, source.num_examples)):
        _check_columns(source, list(columns), *templates)
        examples.append(replace(_example(source, templates, columns, row), verifier=score))
    return examples
