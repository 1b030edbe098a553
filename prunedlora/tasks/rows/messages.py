"""Rows of a list of messages: {"messages": [{"role": "user", "content": "…"}, …]}, as OpenAI and TRL have them."""

from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.row import Row
from prunedlora.tasks.rows.row_format import MESSAGE_KEYS, RowFormat
from prunedlora.tasks.rows.row_messages import read_dialogue, read_options, read_tools
from prunedlora.tasks.rows.whole_conversation import conversation


def read(row: Row) -> Example:
    """The conversation; column `system` is its first message. With the functions of column `tools` and the chat
    template's options of the row. Raises DataError where the messages have a system prompt besides."""
    messages = read_dialogue(row, "messages")
    return conversation(row, messages, row.where("messages"), tools=read_tools(row), options=read_options(row))


MESSAGES = RowFormat(
    "messages",
    required=("messages",),
    optional=("system", "tools", "chat_template_kwargs"),
    keys=MESSAGE_KEYS,
    read=read,
)
