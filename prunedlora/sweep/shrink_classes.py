"""The classes of an adapter that is to shrink, in the order of its logits: nobody may guess it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from prunedlora.adapters.existing import told
from prunedlora.sweep.shrink_original import Original, ShrinkError

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls a class that has no name."""
MOST_NAMED = 20


@dataclass(frozen=True)
class KnownClasses:
    """The classes that an adapter's head has, as far as that is known before it is looked at."""

    names: tuple[str, ...]
    who: str
    """Who says it, for a message: "the data have"."""
    is_ordered: bool
    """Whether they stand in the order of the logits."""


def known_classes(
    original: Original,
    config: PretrainedConfig,
    found: Sequence[str],
    asked: str | None,
    in_file: Sequence[str] | None = None,
) -> KnownClasses:
    """The classes as `asked` (names with commas between, or a file with one name a line), as a sweep file or --set has
    them (`in_file`), as the adapter tells them, as the base model's own config names them, or those that are `found` in
    the data: in order where they count themselves from 0 on, else nobody knows it.

    Those that somebody names may be more than the data have. Raises ShrinkError for a class of the data that is not
    among them, and for names that contradict each other.
    """
    given = _names(asked) if asked is not None else in_file
    who = f"--labels {asked}" if asked is not None else "data.labels"
    if given is not None:
        if len(set(given)) < len(given):
            raise ShrinkError(f"{who} names a class twice: {_shown([n for n in set(given) if given.count(n) > 1])}")
        _check_named(found, given, f"{who} names")
        if original.labels is not None and list(original.labels) != list(given):
            raise ShrinkError(
                f"{who} contradicts {told(original.existing)}, which tells {_shown(original.labels)}, in this order"
            )
        return KnownClasses(tuple(given), f"{who} names", is_ordered=True)
    if original.labels is not None:
        who = f"{told(original.existing)} tells"
        _check_named(found, original.labels, who)
        return KnownClasses(original.labels, who, is_ordered=True)
    if (named := _named_by(config)) is not None and set(named) >= set(found):
        return KnownClasses(tuple(named), "the base model's config names", is_ordered=True)
    counted = tuple(str(number) for number in range(len(found)))
    is_counted = set(counted) == set(found)
    return KnownClasses(counted if is_counted else tuple(found), "the data have", is_ordered=is_counted)


def check_order(original: Original, classes: KnownClasses) -> None:
    """Raises ShrinkError where nobody tells the order of the classes."""
    if not classes.is_ordered:
        raise ShrinkError(
            f"{told(original.existing)} does not say the order of its classes: say them in the order of its logits, "
            "which is that of the training that made it and need not be the alphabet's, as --labels FIRST,SECOND,… or "
            f"--labels FILE with one name a line. The data have {_shown(classes.names)}"
        )


def _check_named(found: Sequence[str], named: Sequence[str], who: str) -> None:
    others = [name for name in found if name not in set(named)]
    if others:
        what = "a class that is" if len(others) == 1 else "classes that are"
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        names = f"{', '.join(map(repr, others[:MOST_NAMED]))}{more}"
        raise ShrinkError(f"{who} {_shown(named)}, and the data have {what} not among them: {names}")


def _names(asked: str) -> list[str]:
    """Raises ShrinkError for a file that is no text."""
    path = Path(asked)
    if not path.is_file():
        return [name.strip() for name in asked.split(",")]
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ShrinkError(f"--labels {asked}: the file is not UTF-8 text: {error}") from error


def _named_by(config: PretrainedConfig) -> list[str] | None:
    """A config's names of classes, in their order; None where they are those of no task."""
    by_number: Mapping[Any, str] = config.id2label or {}
    names = [by_number[number] for number in sorted(by_number)]
    return None if not names or any(UNNAMED.fullmatch(name) for name in names) else names


def _shown(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return f"{len(labels)}, {', '.join(map(repr, labels[:MOST_NAMED]))}{more}"
