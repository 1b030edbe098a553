"""open_store: a store for notebooks, its candidates, front and trainings as tables of pandas, and the decision."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike, fspath
from typing import Any

import pandas as pd

from prunedlora.results.analysis.decision import Decision, decide
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.analysis.yardstick import warning
from prunedlora.results.record import TrialRecord
from prunedlora.results.report.front_files import candidate_rows, columns_of, front_rows, setting_columns
from prunedlora.results.report.verdict import sentences
from prunedlora.results.store import Store


@dataclass(frozen=True, repr=False)
class OpenedStore:
    """What a store said when it was opened; open it again for what has come since. All of it is read, none written."""

    summary: Summary
    """All figures as the report works them out, with the records themselves."""

    @functools.cached_property
    def candidates(self) -> pd.DataFrame:
        """One row per candidate of all trials, by its name (`KEY@CANDIDATE`, as `prunedlora export` takes it): the rows
        and columns of candidates.csv, as numbers, booleans and texts."""
        return _candidates(candidate_rows(self.summary))

    @functools.cached_property
    def front(self) -> pd.DataFrame:
        """One row per point of the front, smallest first, by its name: the rows and columns of front.csv."""
        return _candidates(front_rows(self.summary))

    @functools.cached_property
    def trials(self) -> pd.DataFrame:
        """One row per training, by its key, failed and stopped ones included."""
        rows = [_trial(record, self.summary) for record in self.summary.records]
        columns = list(dict.fromkeys(["key", *(column for row in rows for column in row)]))
        return _typed(rows, columns).set_index("key")

    @functools.cached_property
    def decision(self) -> Decision | None:
        """What to ship, and how much worse than the best it may be; None where no candidate has an adapter file. Raises
        RecordError for broken outcomes."""
        return decide(self.summary)

    @property
    def recommendation(self) -> Point | None:
        """The one adapter that the report names, with its record; None where there is none."""
        return None if self.decision is None else self.decision.recommended.point

    def sentences(self) -> list[str]:
        """The decision as page and terminal say it; why there is none where there is none."""
        if self.decision is None:
            return [self.summary.missing_answer() or ""]
        doubt = warning(self.summary, self.decision.recommended.point)
        return [*filter(None, [doubt]), *sentences(self.decision, self.summary)]

    def __repr__(self) -> str:
        return f"<Store {self.summary.store.uri}: {self._counts}>"

    def _repr_html_(self) -> str:
        """The decision and the front, where a notebook shows the object. Texts are escaped."""
        front = self.front.loc[:, ~self.front.columns.str.startswith("config.")].dropna(axis="columns", how="all")
        told = "".join(f"<p>{escape(line)}</p>" for line in self.sentences())
        title = f"{self.summary.name}: {self._counts}"
        return f"<h4>{escape(title)}</h4>{told}{front.to_html()}"

    @property
    def _counts(self) -> str:
        num_trials, num_candidates = len(self.summary.records), len(self.candidates)
        return f"{num_trials:,} trials, {num_candidates:,} candidates, {len(self.summary.front):,} on the front"


def open_store(
    path: str | PathLike[str],
    *,
    within: float | None = None,
    size: str | None = None,
    serve_on: Sequence[str] | None = None,
) -> OpenedStore:
    """Reads the store of a sweep, a local path or a URI (`s3://…`), for notebooks; needs no GPU, torch or Ray.

    `within`: what the recommended adapter may be worse than the best, in units of the quality; None takes the sweep's.
    `size`: what is to be small, as `adapter_params` or `file_bytes`; None takes the sweep's. `serve_on`: servers that
    the adapter is for, as `["vllm", "llama.cpp"]`; empty: sizes as trained; None takes the sweep's. Raises StoreError
    where there is no store, RecordError naming a broken or newer document, ObjectivesError for what is no size, or no
    server.
    """
    return OpenedStore(summarize(Store(fspath(path)), within, size, serve_on=serve_on))


def _trial(record: TrialRecord, summary: Summary) -> dict[str, Any]:
    return {
        "key": record.key,
        "label": record.label,
        "status": record.status,
        "confirms": record.key in summary.confirming,
        "failure": None if record.failure is None else f"{record.failure.type}: {record.failure.message}",
        "attempts": record.attempts,
        "num_candidates": len(record.candidates),
        "train_seconds": record.train_seconds,
        "tokens_per_second": record.tokens_per_second,
        "padding_share": record.padding_share,
        **setting_columns(record),
    }


def _candidates(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    names = pd.Index([f"{row['key']}@{row['candidate']}" for row in rows], name="name", dtype="string")
    return _typed(rows, columns_of(rows)).set_index(names)


def _typed(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A table whose columns have the types of their values: pandas would turn integers, of which some are missing, into
    floats. What is None or missing in a row is missing there."""
    values = {column: [row.get(column) for row in rows] for column in columns}
    return pd.DataFrame({column: pd.Series(of_all, dtype=_type_of(of_all)) for column, of_all in values.items()})


def _type_of(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return "boolean" if None in values else "bool"
    if kinds == {int}:
        return "Int64" if None in values else "int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    return "string" if kinds == {str} else "object"
