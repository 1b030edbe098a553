"""A candidate by its name, `<key>` or `<key>@<candidate>`, as people give it on the command line."""

from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store


class UnknownCandidateError(ValueError):
    """A name that no candidate of the store has; the message says which there are."""


def find_candidate(store: Store, name: str) -> tuple[TrialRecord, Candidate]:
    """The record and candidate that `<key>[@<candidate>]` names ("180", or "180r4" for a truncation of step 180);
    without the second part the trial's last one.

    Raises UnknownCandidateError, saying what there is.
    """
    key, _, wanted = name.partition("@")
    record = store.read_record(key) if key else None
    if record is None:
        known = ", ".join(known.key for known in store.records()) or "none"
        raise UnknownCandidateError(f"{store.uri} has no trial {key!r}; it has: {known}")
    names = [candidate.name for candidate in record.candidates]
    if wanted and wanted not in names:
        raise UnknownCandidateError(f"trial {key} has no candidate at step {wanted!r}; it has: {', '.join(names)}")
    if not names:
        raise UnknownCandidateError(f"trial {key} ({record.status}) has no candidates")
    return record, record.candidates[names.index(wanted) if wanted else -1]
