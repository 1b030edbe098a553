"""The order of an adapter's classes: as its record has it, and in a file beside the adapter."""

import json
from pathlib import Path

from prunedlora.adapters.export import LABELS_FILE
from prunedlora.results.record import TrialRecord


def recorded_labels(record: TrialRecord) -> tuple[str, ...] | None:
    """The classes in the order of the logits that the trial was trained with; None for a task without classes.

    What is made from an adapter later takes them from here: its head keeps the order that it was trained in, whatever
    order the same data would be given today.
    """
    labels = record.environment.model.get("labels")
    return tuple(map(str, labels)) if isinstance(labels, list) else None


def write_labels(record: TrialRecord, folder: Path) -> None:
    """Writes LABELS_FILE beside an adapter that has classes."""
    labels = recorded_labels(record)
    if labels is not None:
        text = json.dumps({str(number): label for number, label in enumerate(labels)}, ensure_ascii=False, indent=1)
        (folder / LABELS_FILE).write_text(text + "\n", encoding="utf-8")
