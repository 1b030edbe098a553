"""A candidate by the name that people give it on the command line: the one module that says what such a name may be.

<key>               a trial's last candidate that is as it was trained; where all are cuts, the last
<key>@<candidate>   one of its candidates: 180, or a cut of step 180, 180r4 or 180-svd-global-parameters-6500
<beginning>[@…]     the same, for a key that alone begins so
recommended         the one that the report names
best                the one of the best quality of those with an adapter file; the smallest of equals
"""

from collections.abc import Sequence
from typing import Final

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.figure_text import first_of
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store

RECOMMENDED: Final = "recommended"
BEST: Final = "best"
MOST_NAMED = 10
"""Keys, or candidates, that an error lists."""


class UnknownCandidateError(ValueError):
    """A name that no candidate of the store has, or several have; the message says which there are."""


def find_candidate(store: Store, name: str, *, serve_on: Sequence[str] | None = None) -> tuple[TrialRecord, Candidate]:
    """The record and candidate that `name` stands for; `recommended` and `best` for these servers (None: the sweep's).

    Raises UnknownCandidateError, saying what there is; for `recommended` and `best` what `summarize` raises too.
    """
    key, at, wanted = name.partition("@")
    if key in (RECOMMENDED, BEST):
        if at:
            raise UnknownCandidateError(f"{name!r}: {key} is one candidate already, leave out {at + wanted!r}")
        return _told_by_summary(store, key, serve_on)
    if at and not wanted:
        raise UnknownCandidateError(f"{name!r}: no candidate after the @; leave it out for the trial's last one")
    record = _find_trial(store, key)
    names = [candidate.name for candidate in record.candidates]
    if wanted and wanted not in names:
        raise UnknownCandidateError(
            f"trial {record.key} has no candidate {wanted!r}; it has: {first_of(names, MOST_NAMED) or 'none'}"
        )
    if not names:
        raise UnknownCandidateError(f"trial {record.key} ({record.status}) has no candidates")
    if wanted:
        return record, record.candidates[names.index(wanted)]
    return record, record.last_trained or record.candidates[-1]


def _told_by_summary(store: Store, name: str, serve_on: Sequence[str] | None) -> tuple[TrialRecord, Candidate]:
    summary = summarize(store, serve_on=serve_on)
    point = summary.recommended if name == RECOMMENDED else summary.best
    if point is None:
        raise UnknownCandidateError(f"{store.uri} has no {name} candidate. {summary.missing_answer()}")
    return point.record, point.candidate


def _find_trial(store: Store, key: str) -> TrialRecord:
    """The trial of this key, or the only one whose key begins so."""
    if key and (record := store.read_record(key)) is not None:
        return record
    found = store.records(beginning=key) if key else []
    if len(found) == 1:
        return found[0]
    if found:
        keys = first_of([record.key for record in found], MOST_NAMED)
        raise UnknownCandidateError(f"{key!r} begins the keys of {len(found)} trials of {store.uri}: {keys}")
    keys = first_of([record.key for record in store.records()], MOST_NAMED) or "none"
    raise UnknownCandidateError(f"{store.uri} has no trial {key!r}; it has: {keys}")
