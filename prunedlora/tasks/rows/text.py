"""Rows of plain text, all of which is trained: {"text": "…"}."""

from prunedlora.tasks.example import Example, Segment
from prunedlora.tasks.rows.row import Row
from prunedlora.tasks.rows.row_format import RowFormat


def read(row: Row) -> Example:
    """The text as the target of an empty prompt."""
    text = row.text("text")
    return Example("", text, segments=(Segment(text, True),))


TEXT = RowFormat("text", required=("text",), read=read, has_system=False)
