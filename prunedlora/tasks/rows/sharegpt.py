"""Rows of ShareGPT: {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}."""

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.row import Row
from prunedlora.tasks.rows.row_format import MESSAGE_KEYS, RowFormat
from prunedlora.tasks.rows.row_messages import read_messages, read_options, read_tools
from prunedlora.tasks.rows.whole_conversation import SYSTEM, conversation


def read(row: Row) -> Example:
    """The conversation; column `system` is its first message. Raises DataError where the messages have one besides."""
    messages, system = read_messages(row, "conversations"), row.text_or_none("system")
    if system is not None:
        if any(message["role"] in SYSTEM for message in messages):
            raise DataError(f"{row.where('system')}: the messages have a system prompt as well; leave out one of them")
        messages = [{"role": "system", "content": system}, *messages]
    return conversation(row, messages, row.where("conversations"), tools=read_tools(row), options=read_options(row))


SHAREGPT = RowFormat(
    "sharegpt",
    required=("conversations",),
    optional=("system", "tools", "chat_template_kwargs"),
    keys=MESSAGE_KEYS,
    read=read,
)
