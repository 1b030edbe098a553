"""Lists and objects inside a row: as their reader found them, or as the JSON text of them."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.number_text import NumberText
from prunedlora.tasks.templates import half_character

PRINTED = re.compile(r"\s*[\[{]+\s*'")
"""How lists and objects begin where Python printed them."""
MOST_DEEP = 100
"""Lists and objects inside one another. Real tools and calls have ten; Python's own limit is some hundreds."""
KINDS = {bool: "a truth value", str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}


def kind(value: object) -> str:
    """What a value is, in words for a message: "a text", "an object", "nothing (null)"."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, NumberText):
        return "a number"
    return next((words for known, words in KINDS.items() if isinstance(value, known)), f"a {type(value).__name__}")


def json_value(value: Any, where: str, depth: int = 0) -> Any:
    """The value as plain Python has JSON's: numbers that are numbers, lists, dicts. Null is a value (a default of null
    in a function's schema); what a table of Arrow has in the place of absent keys is gone already (table.py).

    Raises DataError for what JSON has not (a date, bytes), for halves of characters, and for lists and objects more
    than 100 deep.
    """
    if depth > MOST_DEEP:
        raise DataError(f"{where}: has lists and objects more than {MOST_DEEP} deep inside one another")
    match value:
        case NumberText():
            return _number(value, where)
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            if problem := half_character(value):
                raise DataError(f"{where}: holds {problem}")
            return value
        case np.floating() if not isinstance(value, float):
            return json_value(float(str(value)), where)  # the shortest text of its own type: 1.1, not 1.100000023841858
        case Mapping():
            return {key_of(key, where): json_value(entry, where, depth + 1) for key, entry in value.items()}
        case list() | tuple():
            return [json_value(entry, where, depth + 1) for entry in value]
    shown = repr(value) if isinstance(value, float) else kind(value)
    raise DataError(f"{where}: holds {shown}; JSON has texts, numbers, truth values, lists and objects")


def key_of(key: str, where: str) -> str:
    """The key of an object. Raises DataError for one that holds half of a character."""
    if problem := half_character(key):
        raise DataError(f"{where}: has a key that holds {problem}")
    return key


def parsed(value: Any, where: str, what: str) -> Any:
    """The value, or of a text what it is the JSON of.

    Tables of text alone, like csv, have no other way to hold a list, and exports of others have them often. Raises
    DataError for text that is no JSON; `what` says what would be right.
    """
    if not isinstance(value, str) or isinstance(value, NumberText):
        return value
    try:
        found = json.loads(value)
    except ValueError as error:
        hint = " (it looks printed by Python: json.dumps writes JSON)" if PRINTED.match(value) else ""
        raise DataError(f"{where}: is a text and no JSON ({error}): {_start(value)}{hint}; {what}") from error
    except RecursionError as error:
        raise DataError(
            f"{where}: has lists and objects too deep inside one another: {_start(value)}; {what}"
        ) from error
    json_value(found, where)  # refuses what JSON texts may hold and JSON has not
    return found


def as_list(value: Any, where: str, what: str) -> Sequence[Any]:
    """The list that a value is, or is the JSON text of. Raises DataError for anything else."""
    found = parsed(value, where, what)
    if not isinstance(found, list | tuple):
        text = " in JSON text" if found is not value else ""
        raise DataError(f"{where}: is {kind(found)}{text}; {what}")
    return found


def as_object(value: Any, where: str, what: str) -> Mapping[str, Any]:
    """The object that a value is, or is the JSON text of. Raises DataError for anything else."""
    found = parsed(value, where, what)
    if not isinstance(found, Mapping):
        text = " in JSON text" if found is not value else ""
        raise DataError(f"{where}: is {kind(found)}{text}; {what}")
    return found


def canonical(value: Any) -> str:
    """JSON of a value, the same for equal ones."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _number(text: NumberText, where: str) -> int | float:
    try:
        number = text.number
    except ValueError as error:  # an int of more digits than Python reads
        raise DataError(f"{where}: {error}") from error
    if not math.isfinite(number):
        raise DataError(f"{where}: number {text} is too large")
    return number


def is_nothing(value: Any) -> bool:
    """Whether a cell is empty: None, or NaN, which tables of numbers have in its place."""
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def _start(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
