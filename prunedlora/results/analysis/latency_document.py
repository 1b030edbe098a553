"""How long adapters take: to load, and per forward pass beside and inside of the base weights, as measured somewhere.

The figures lie beside the candidate in its store, `trials/<key>/latency/<candidate>.json`: one entry for each machine
and shape of input that they were measured on. Nothing of a sweep depends on them.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from prunedlora.results.analysis.pareto import Point
from prunedlora.results.figure_text import counted
from prunedlora.results.record import SCHEMA_VERSION, Document, to_json
from prunedlora.results.store import Store

Seconds = tuple[PositiveFloat, ...]


class Conditions(Document):
    """What has to be equal for two latencies to be compared."""

    device: str
    """Name of the GPU, or "cpu"."""
    machine: str
    """Name and number of cores of the processor."""
    num_threads: PositiveInt
    """Of torch, on the CPU."""
    dtype: str
    """That the base model computes in."""
    batch_size: PositiveInt
    num_tokens: PositiveInt
    """Length of every sequence; nothing is generated."""
    packages: dict[str, str]
    """Distribution → version."""

    def sentence(self) -> str:
        """In a few words."""
        where = self.machine if self.device == "cpu" else self.device
        threads = f", {counted(self.num_threads, 'thread')}" if self.device == "cpu" else ""
        return f"{self.batch_size} × {self.num_tokens} tokens, {self.dtype}, {where}{threads}"


class Latency(Document):
    """One candidate, measured: seconds of each repetition, the three models in turn."""

    conditions: Conditions
    load_seconds: Seconds = Field(min_length=1)
    """PEFT's from_pretrained on a loaded base model: read the files, wrap the layers, copy the weights."""
    base_seconds: Seconds = Field(min_length=1)
    """One forward pass of the base model without an adapter."""
    adapter_seconds: Seconds = Field(min_length=1)
    """Of the base model with the adapter beside its weights."""
    merged_seconds: Seconds
    """Of the base model with the adapter merged into its weights; empty where they cannot take it up (4 bit)."""

    @property
    def load(self) -> float:
        """Median seconds."""
        return statistics.median(self.load_seconds)

    @property
    def base(self) -> float:
        """Median seconds."""
        return statistics.median(self.base_seconds)

    @property
    def adapter(self) -> float:
        """Median seconds."""
        return statistics.median(self.adapter_seconds)

    @property
    def merged(self) -> float | None:
        """Median seconds; None where it cannot be merged."""
        return statistics.median(self.merged_seconds) if self.merged_seconds else None

    @property
    def adapter_ratios(self) -> tuple[float, ...]:
        """Round by round, the pass with the adapter as a multiple of the base's: what slows a round cancels out."""
        return tuple(x / base for x, base in zip(self.adapter_seconds, self.base_seconds, strict=True))

    @property
    def merged_ratios(self) -> tuple[float, ...]:
        """The same of the merged model; empty where it cannot be merged."""
        return tuple(x / base for x, base in zip(self.merged_seconds, self.base_seconds, strict=False))

    @model_validator(mode="after")
    def _rounds_agree(self) -> "Latency":
        rounds = len(self.base_seconds)
        if len(self.adapter_seconds) != rounds or len(self.merged_seconds) not in (0, rounds):
            others = f"{len(self.adapter_seconds)} with the adapter and {len(self.merged_seconds)} merged"
            raise ValueError(f"{rounds} rounds of the base model, but {others}")
        return self


def spread(ratios: Sequence[float]) -> float | None:
    """Interquartile range: how unquiet the machine was. None for a single round."""
    if len(ratios) < 2:
        return None
    low, _, high = statistics.quantiles(ratios, n=4)
    return high - low


class Latencies(Document):
    """All that was measured of a candidate, one entry for each set of conditions."""

    schema_version: Literal[2] = SCHEMA_VERSION
    measured: tuple[Latency, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _conditions_differ(self) -> "Latencies":
        seen = [to_json(one.conditions) for one in self.measured]
        if len(set(seen)) < len(seen):
            raise ValueError("two measurements under the same conditions")
        return self


def read_latencies(store: Store, key: str, candidate: str) -> tuple[Latency, ...]:
    """What was measured of a candidate, oldest first. Raises RecordError for a broken file."""
    found = store.read_document(Latencies, _path(store, key, candidate))
    return () if found is None else found.measured


def write_latency(store: Store, key: str, candidate: str, latency: Latency) -> None:
    """Adds a measurement; it replaces an earlier one under the same conditions."""
    others = [one for one in read_latencies(store, key, candidate) if one.conditions != latency.conditions]
    store.write_document(_path(store, key, candidate), Latencies(measured=(*others, latency)))


def latency_columns(store: Store, points: Iterable[Point]) -> list[tuple[Conditions, dict[str, Latency]]]:
    """For tables: conditions with what was measured under them by candidate name (Point.name), those that cover most of
    `points` first. Empty when nothing was measured."""
    columns: dict[str, tuple[Conditions, dict[str, Latency]]] = {}
    points = list(points)
    every = store.read_documents(Latencies, [_path(store, point.key, point.candidate.name) for point in points])
    for point, latencies in zip(points, every, strict=True):
        for one in () if latencies is None else latencies.measured:
            _, found = columns.setdefault(to_json(one.conditions), (one.conditions, {}))
            found[point.name] = one
    return sorted(columns.values(), key=lambda column: (-len(column[1]), to_json(column[0])))


def _path(store: Store, key: str, candidate: str) -> str:
    return store.trial_path(key, "latency", f"{candidate}.json")
