"""Rows of segments of which some are trained: {"segments": [{"label": true, "text": "…"}, …]}, as axolotl has them."""

from collections.abc import Mapping

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example, Segment
from prunedlora.tasks.rows.nested_values import as_list, kind
from prunedlora.tasks.rows.row import Row
from prunedlora.tasks.rows.row_format import RowFormat
from prunedlora.tasks.templates import text_of

SEGMENTS = "write a list of segments, [{'label': true, 'text': '…'}, …], or the JSON text of one"


def read(row: Row) -> Example:
    """The segments in their order; the last trained one is the target, and those before it the prompt.

    Raises DataError with the number of the segment, counted from 0: a label that is no truth value, a text that is
    missing or empty; and where no segment is trained.
    """
    where = row.where("segments")
    if row.get("segments") is None:
        raise DataError(f"{where} has no value; {SEGMENTS}")
    segments = []
    for number, entry in enumerate(as_list(row.get("segments"), where, SEGMENTS)):
        segments.append(_segment(entry, f"{where}, segment {number}", row))
    trained = [number for number, segment in enumerate(segments) if segment.trained]
    if not trained:
        raise DataError(f"{where}: no segment has a true {row.names.of('label')}, so there is nothing to learn")
    before = "".join(segment.text for segment in segments[: trained[-1]])
    return Example(before, segments[trained[-1]].text, segments=tuple(segments))


def _segment(entry: object, where: str, row: Row) -> Segment:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: is {kind(entry)}; {SEGMENTS}")
    label, text = row.names.of("label"), row.names.of("text")
    if not isinstance(entry.get(label), bool):
        raise DataError(f"{where}: its {label} is {kind(entry.get(label))}; true is trained, false is not")
    if not isinstance(entry.get(text), str) or not entry[text]:
        found = "empty" if entry.get(text) == "" else kind(entry.get(text))
        raise DataError(f"{where}: its {text} is {found}; {SEGMENTS}")
    return Segment(text_of(entry[text], f"{where}, {text}"), entry[label])


INPUT_OUTPUT = RowFormat("input_output", required=("segments",), keys=("label", "text"), read=read, has_system=False)
