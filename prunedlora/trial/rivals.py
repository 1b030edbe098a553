"""What else a store has on record, for a trial that asks what its candidates are worth: read once, kept small.

A process reads every record once, a millisecond or a few each, and afterwards those alone that have come since: a
record of a completed or stopped trial does not change. One of a failed trial may, by a retry, and is read again for
every trial that asks. Kept are some 300 bytes a candidate.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from weakref import WeakKeyDictionary

from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store

AT_ONCE = 256
"""Records that are in memory at once."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A candidate that another is compared with."""

    key: str
    candidate: str
    """Its name within the trial."""
    loss: float
    num_examples: int
    sizes: tuple[float, ...]
    """As `sizes_of` gives them."""

    @classmethod
    def of(cls, key: str, candidate: Candidate, sizes: tuple[float, ...]) -> Self:
        loss = candidate.figures["loss"]
        return cls(key, candidate.name, loss.value, loss.num_examples, sizes)

    @property
    def name(self) -> str:
        return f"{self.key}@{self.candidate}"


@dataclass
class _OnRecord:
    """The candidates of a store's ended trials, as this process has read them."""

    rivals: dict[str, list[Rival]] = field(default_factory=dict)
    """Of completed and stopped trials, by what makes losses comparable."""
    settled: set[str] = field(default_factory=set)
    """Keys whose record is completed or stopped, and so will not change."""
    failed: dict[str, tuple[str, list[Rival]]] = field(default_factory=dict)
    """Key whose record may be replaced, by a trial that is retried → what makes its losses comparable, its rivals."""
    asking: str | None = None


_ON_RECORD: WeakKeyDictionary[Store, _OnRecord] = WeakKeyDictionary()


def rivals_of(
    store: Store, config: TrialConfig, key: str, sizes_of: Callable[[Candidate], tuple[float, ...]]
) -> Sequence[Rival]:
    """The candidates of all ended trials of the same base and data as `config`, but for those of `key` itself and of
    full fine-tuning. Raises RecordError naming a broken record."""
    known = _ON_RECORD.setdefault(store, _OnRecord())
    if known.asking != key:
        known.asking = key
        known.failed.clear()
    seen = {key} | known.settled | known.failed.keys()
    new = [other for other in store.trial_keys() if other not in seen]
    for record in _records(store, new):
        is_adapter = record.config.get("adapter") is not None
        found = [Rival.of(record.key, each, sizes_of(each)) for each in record.candidates] if is_adapter else []
        if record.status == "failed":
            known.failed[record.key] = comparable(record.config), found
            continue
        known.settled.add(record.key)
        known.rivals.setdefault(comparable(record.config), []).extend(found)
    wanted = comparable(config.model_dump(mode="json"))
    left = [rival for data, rivals in known.failed.values() if data == wanted for rival in rivals]
    return [rival for rival in [*known.rivals.get(wanted, []), *left] if rival.key != key]


def _records(store: Store, keys: Sequence[str]) -> Iterator[TrialRecord]:
    for begin in range(0, len(keys), AT_ONCE):
        yield from store.records_of(keys[begin : begin + AT_ONCE])


def comparable(config: dict[str, Any]) -> str:
    """Of a TrialConfig as plain data, what must be equal for two losses to be over the same targets, and for both to
    have the same figures."""
    model, evaluation = config.get("model", {}), config.get("evaluation", {})
    return json.dumps(
        [
            config.get("data"),
            *(model.get(name) for name in ("name", "revision", "gguf_file")),
            *(evaluation.get(name) for name in ("metric", "max_examples", "max_new_tokens", "stop")),
        ],
        sort_keys=True,
    )
