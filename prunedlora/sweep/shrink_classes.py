"""The classes of an adapter that is to shrink, in the order of its logits: nobody may guess it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from prunedlora.adapters.existing import told
from prunedlora.sweep.shrink_original import Original, ShrinkError

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls a class that has no name."""
MOST_NAMED = 20


def class_labels(original: Original, config: PretrainedConfig, found: Sequence[str], asked: str | None) -> list[str]:
    """The classes `found` in the data, in the order of the adapter's logits: as `asked` (names with commas between, or
    a file with one name a line), as the adapter tells it, as the base model's own config names its classes, or as they
    count themselves from 0 on.

    Raises ShrinkError where none of them names the classes of the data.
    """
    if asked is not None:
        return _asked(original, found, _names(asked))
    if original.labels is not None:
        if set(original.labels) != set(found):
            raise ShrinkError(
                f"{told(original.existing)} tells the classes {_shown(original.labels)}, and the data have "
                f"{_shown(found)}"
            )
        return list(original.labels)
    if (named := _named_by(config)) is not None and set(named) == set(found):
        return named
    counted = [str(number) for number in range(len(found))]
    if set(counted) == set(found):
        return counted
    raise ShrinkError(
        f"{told(original.existing)} does not say the order of its classes: say them in the order of its logits, which "
        "is that of the training that made it and need not be the alphabet's, as --labels FIRST,SECOND,… or --labels "
        f"FILE with one name a line. The data have {_shown(found)}"
    )


def _names(asked: str) -> list[str]:
    """Raises ShrinkError for a file that is no text."""
    path = Path(asked)
    if not path.is_file():
        return [name.strip() for name in asked.split(",")]
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ShrinkError(f"--labels {asked}: the file is not UTF-8 text: {error}") from error


def _asked(original: Original, found: Sequence[str], labels: list[str]) -> list[str]:
    if len(set(labels)) < len(labels):
        raise ShrinkError(f"--labels {','.join(labels)} names a class twice")
    if set(labels) != set(found):
        raise ShrinkError(f"--labels {','.join(labels)}: the data have the classes {_shown(found)}")
    if original.labels is not None and list(original.labels) != labels:
        raise ShrinkError(
            f"--labels {','.join(labels)} contradicts {told(original.existing)}, which tells {_shown(original.labels)}"
        )
    return labels


def _named_by(config: PretrainedConfig) -> list[str] | None:
    """A config's names of classes, in their order; None where they are those of no task."""
    by_number: Mapping[Any, str] = config.id2label or {}
    names = [by_number[number] for number in sorted(by_number)]
    return None if not names or any(UNNAMED.fullmatch(name) for name in names) else names


def _shown(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return f"{len(labels)}, {', '.join(map(repr, labels[:MOST_NAMED]))}{more}"
