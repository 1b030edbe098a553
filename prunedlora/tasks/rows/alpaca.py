"""Rows of Alpaca: {"instruction", "input", "output"}, also with `system` and `history`.

What the user says is the instruction, with the input in the next line where there is one, as LLaMA-Factory has it
(https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md)."""

from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.rows.nested_values import as_list, kind
from prunedlora.tasks.rows.row import Row
from prunedlora.tasks.rows.row_format import RowFormat
from prunedlora.tasks.rows.whole_conversation import conversation
from prunedlora.tasks.templates import text_of

HISTORY = "write the earlier turns as [['what the user said', 'what the assistant said'], …]"


def read(row: Row) -> Example:
    """The conversation: system prompt, earlier turns, the instruction and its output. An input that is absent, null or
    empty is none."""
    instruction, added = row.text("instruction"), row.text_or_none("input")
    asked = instruction if added is None else f"{instruction}\n{added}"
    system = row.text_or_none("system")
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += _history(row)
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": row.text("output")}]
    return conversation(row, messages, row.where("output"))


def _history(row: Row) -> list[dict[str, Any]]:
    where, value = row.where("history"), row.get("history")
    if value is None or value == "":
        return []
    messages = []
    for number, turn in enumerate(as_list(value, where, HISTORY)):
        inside = f"{where}, turn {number}"
        if not isinstance(turn, list | tuple):
            raise DataError(f"{inside}: is {kind(turn)}; {HISTORY}")
        if len(turn) != 2:
            raise DataError(f"{inside}: is a list of {len(turn)}; {HISTORY}")
        for role, said in zip(("user", "assistant"), turn, strict=True):
            if not isinstance(said, str):
                raise DataError(f"{inside}: what the {role} said is {kind(said)}; {HISTORY}")
            messages.append({"role": role, "content": text_of(said, inside)})
    return messages


ALPACA = RowFormat("alpaca", required=("instruction", "output"), optional=("input", "system", "history"), read=read)
