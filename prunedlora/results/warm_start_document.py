"""What a search was warm-started with: settings of earlier sweeps, copied into this store before its first ask, so that
to go on with it needs no other store. Written by the driver (sweep/warm_start_store.py), used by the search."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from pydantic import Field

from prunedlora.results.ask import Ask
from prunedlora.results.record import SCHEMA_VERSION, Document, Json, Key, RecordError
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store

FILE = "warm_start.json"
DROPPED: Final = "prunedlora:warm_start_dropped"
"""System attribute of the ask before which sources were dropped: URI → why. None of theirs is told from this ask on."""


class WarmSource(Document):
    """A store that was read."""

    uri: str
    name: str
    """Of its sweep."""
    num_completed: int = Field(ge=1)
    """Trials that had completed there when it was read, without trainings that confirm others."""
    num_taken: int = Field(ge=1)
    """Of these, those whose settings this sweep's space has."""
    left_out: dict[str, int]
    """Why the others were not taken → how many."""


class WarmSetting(Document):
    """A completed trial of a source, in terms of this sweep."""

    source: str
    """URI of its store."""
    key: Key
    """Of the trial, there."""
    params: dict[str, Json]
    """Parameter of this sweep's space → value, as an Ask has it."""
    values: tuple[float, ...]
    """What it came to there, one per objective, in the order of this sweep's."""


class WarmStart(Document):
    schema_version: Literal[2] = SCHEMA_VERSION
    sources: tuple[WarmSource, ...]
    """In the order in which they were given; empty: none."""
    settings: tuple[WarmSetting, ...]
    """Of each source those that are kept, the best first."""
    first: tuple[dict[str, Json], ...]
    """Parameters of the best settings, which are asked before the sampler is."""


@contextmanager
def named_option() -> Iterator[None]:
    """That a store of an earlier sweep cannot be read is told with the option that names it."""
    try:
        yield
    except (StoreError, RecordError) as error:
        raise type(error)(f"--warm-start: {error}") from error


def write_warm_start(store: Store, memory: WarmStart) -> None:
    store.write_document(FILE, memory)


def read_warm_start(store: Store) -> WarmStart | None:
    """None for a search without sources. Raises RecordError for a broken file."""
    memory = store.read_document(WarmStart, FILE)
    return memory if memory is not None and memory.sources else None


def dropped_sources(asks: Iterable[Ask]) -> dict[str, tuple[int, str]]:
    """URI → (number of the ask before which it was dropped, why), of all asks of a store."""
    found: dict[str, tuple[int, str]] = {}
    for ask in asks:
        reasons = ask.system_attrs.get(DROPPED)
        for uri, reason in reasons.items() if isinstance(reasons, dict) else ():
            found.setdefault(uri, (ask.number, str(reason)))
    return found


def taken_lines(memory: WarmStart) -> list[str]:
    """What was taken, one line per source, then what is asked first."""
    return [
        *(
            f"{source.num_taken} of {source.num_completed} completed trials of {source.uri} (sweep {source.name})"
            + ("" if not source.left_out else f"; left out: {_counted(source.left_out)}")
            for source in memory.sources
        ),
        f"the {len(memory.first)} best of their settings are asked first"
        if len(memory.first) > 1
        else "the best of their settings is asked first",
    ]


def warm_start_sentences(store: Store) -> list[str]:
    """What a report says of a store's; empty where its search had no sources. Raises RecordError."""
    memory = read_warm_start(store)
    if memory is None:
        return []
    told = "; ".join(taken_lines(memory))
    return [
        f"Warm start: {told}.",
        *(
            f"Warm start: what {uri} tells was dropped before ask {number}, since it did not hold here: {reason}."
            for uri, (number, reason) in dropped_sources(store.asks()).items()
        ),
    ]


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} with {reason}" for reason, count in reasons.items())
