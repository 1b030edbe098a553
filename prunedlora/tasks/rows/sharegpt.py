"""Rows of ShareGPT: {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}."""

from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.row import Row
from prunedlora.tasks.rows.row_format import MESSAGE_KEYS, RowFormat
from prunedlora.tasks.rows.row_messages import read_dialogue, read_options, read_tools
from prunedlora.tasks.rows.whole_conversation import conversation


def read(row: Row) -> Example:
    """The conversation; column `system` is its first message. Raises DataError where the messages have one besides."""
    messages = read_dialogue(row, "conversations")
    return conversation(row, messages, row.where("conversations"), tools=read_tools(row), options=read_options(row))


SHAREGPT = RowFormat(
    "sharegpt",
    required=("conversations",),
    optional=("system", "tools", "chat_template_kwargs"),
    keys=MESSAGE_KEYS,
    read=read,
)
