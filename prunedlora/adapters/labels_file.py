"""The classes that an adapter tells in a file beside it, in the order of its head's logits."""

import json
from pathlib import Path


class LabelsFileError(ValueError):
    """A file of classes that is not as it should be; the message names it and says how it should be."""


def read_labels(path: Path) -> tuple[str, ...]:
    """The classes in `labels.json`. Raises LabelsFileError."""
    try:
        tree = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise _wrong(path, f"it is no JSON: {error}") from error
    if not isinstance(tree, dict):
        raise _wrong(path, f"it holds a {type(tree).__name__}")
    if set(tree) != {str(number) for number in range(len(tree))} or len(tree) < 2:
        raise _wrong(path, f"its keys are {', '.join(map(repr, list(tree)[:5])) or 'none'}")
    labels = [tree[str(number)] for number in range(len(tree))]
    if others := [label for label in labels if not isinstance(label, str) or not label]:
        raise _wrong(path, f"{others[0]!r} is no name")
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise _wrong(path, f"{twice[0]!r} is there twice")
    return tuple(labels)


def _wrong(path: Path, why: str) -> LabelsFileError:
    return LabelsFileError(
        f"{path}: {why}; it should be an object of every logit's number, from 0 on, and the name of its class, as "
        '{"0": "negative", "1": "positive"}'
    )
