"""Rows of a prompt and its completion: two texts, or two lists of messages, as TRL has them."""

import json
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.nested_values import kind
from prunedlora.tasks.rows.row import Names, Row
from prunedlora.tasks.rows.row_format import MESSAGE_KEYS, RowFormat
from prunedlora.tasks.rows.row_messages import read_messages, read_options, read_tools
from prunedlora.tasks.rows.whole_conversation import conversation


def read(row: Row) -> Example:
    """Two texts as they are, or the conversation that both lists are together, with where the prompt ends.

    Raises DataError for one of each, for a text that is the JSON of messages (it would be learnt letter by letter), and
    for tools or options beside plain texts, which have no place for them.
    """
    prompt, completion = row.get("prompt"), row.get("completion")
    lists = [isinstance(value, list | tuple) for value in (prompt, completion)]
    if all(lists):
        before, after = read_messages(row, "prompt"), read_messages(row, "completion")
        for column, messages in (("prompt", before), ("completion", after)):
            if not messages:
                raise DataError(f"{row.where(column)}: has no messages")
        return conversation(
            row,
            [*before, *after],
            row.where("completion"),
            num_prompt=len(before),
            tools=read_tools(row),
            options=read_options(row),
        )
    if any(lists):
        raise DataError(
            f"{row.where('prompt')}: is {kind(prompt)}, and {row.where('completion')} is {kind(completion)}; both are "
            "texts, or both lists of messages"
        )
    return _plain(row)


def _plain(row: Row) -> Example:
    texts = {column: row.text(column) for column in ("prompt", "completion")}
    for column, text in texts.items():
        if _is_messages(text, row.names):
            raise DataError(
                f"{row.where(column)}: is the JSON text of messages, which would be learnt letter by letter; write "
                "prompt and completion as lists, in a jsonl or parquet file, or both in one column messages"
            )
    if useless := _useless(row):
        raise DataError(
            f"{row.where('prompt')}: is a text, on which {', '.join(useless)} has no effect; remove it, or write "
            "prompt and completion as lists of messages"
        )
    return Example(texts["prompt"], texts["completion"], system=row.system)


def _useless(row: Row) -> list[str]:
    """What is given and says something of messages."""
    given = {
        "roles": row.names.roles,
        "fields": [name for name in row.names.fields if name in MESSAGE_KEYS],
        row.where("tools"): read_tools(row),
        row.where("chat_template_kwargs"): read_options(row),
    }
    return [name for name, value in given.items() if value]


def _is_messages(text: str, names: Names) -> bool:
    """Whether a text is the JSON of messages, or of one; other JSON, as calls and records, is a text to learn."""
    if not text.lstrip().startswith(("[", "{")):
        return False
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    pairs = (("role", "content"), ("role", "tool_calls"), ("from", "value"))
    keys = [{names.of(one), names.of(two)} for one, two in pairs]
    entries = found if isinstance(found, list) else [found]
    return bool(entries) and all(
        isinstance(entry, dict) and any(two <= entry.keys() for two in keys) for entry in entries
    )


PROMPT_COMPLETION = RowFormat(
    "prompt_completion",
    required=("prompt", "completion"),
    optional=("tools", "chat_template_kwargs"),
    keys=MESSAGE_KEYS,
    read=read,
)
