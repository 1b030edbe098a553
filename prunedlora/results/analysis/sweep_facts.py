"""Facts of a sweep: on which task, base model and data it was run, and when."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prunedlora.results.analysis.summary import Summary
from prunedlora.results.driver import read_driver
from prunedlora.results.record import TrialRecord
from prunedlora.results.recorded_settings import flat


def sweep_facts(summary: Summary) -> dict[str, str]:
    """Word → fact, of those that are on record; of several, the one that most trials have and how many have others."""
    facts = {
        "Task": _most(summary, _task),
        "Base model": _most(summary, _model),
        "Data": _most(summary, _data),
        "Measured": _when(summary),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _most(summary: Summary, fact: Any) -> str:
    found = Counter(text for record in summary.records if (text := fact(record)))
    if not found:
        return ""
    [(text, _), *others] = found.most_common()
    return f"{text} (others in {sum(count for _, count in others)} trials)" if others else text


def _task(record: TrialRecord) -> str:
    return str(flat(record.config).get("data.task") or "").replace("_", " ")


def _model(record: TrialRecord) -> str:
    name = record.environment.model.get("name")
    return str(name) if name else ""


def _data(record: TrialRecord) -> str:
    name = flat(record.config).get("data.train.name")
    counts = record.environment.data.get("num_examples")
    sizes = "" if not isinstance(counts, Mapping) else _sizes(counts)
    return f"{name}{f' ({sizes})' if sizes else ''}" if name else sizes


def _sizes(counts: Mapping[str, Any]) -> str:
    """ "2,598 examples to train, 400 to validate, 1,000 to test" """
    words = {"train": "examples to train", "validation": "to validate", "test": "to test"}
    return ", ".join(f"{counts[split]:,} {word}" for split, word in words.items() if counts.get(split))


def _when(summary: Summary) -> str:
    """The day on which its last driver was last heard of, by that machine's clock."""
    driver = read_driver(summary.store.storage)
    return "" if driver is None else f"{datetime.fromtimestamp(driver.heartbeat, UTC):%Y-%m-%d}"
