"""A candidate by one name of store and candidate: what a configuration calls an adapter that a sweep has left."""

from dataclasses import dataclass

from prunedlora.adapter_place import split_stored
from prunedlora.results.analysis.find import BEST, RECOMMENDED, UnknownCandidateError, find_candidate
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import SWEEP_FILE, Store


@dataclass(frozen=True)
class NamedAdapter:
    """A candidate with where it lies."""

    store: Store
    record: TrialRecord
    candidate: Candidate

    @property
    def path(self) -> str:
        """Path of its adapter in the store. Raises UnknownCandidateError where it has none."""
        if self.candidate.adapter_path is None:
            reason = "every layer has rank 0" if self.candidate.max_rank == 0 else "it was deleted, or never was one"
            raise UnknownCandidateError(f"{self.record.key}@{self.candidate.name}: there is no adapter: {reason}")
        return self.store.trial_path(self.record.key, self.candidate.adapter_path)


def find_adapter(name: str) -> NamedAdapter:
    """The candidate of `store:STORE/KEY@NAME`.

    Raises UnknownCandidateError, saying what there is; for `recommended` and `best` too, which are others when the
    search goes on. Raises StoreError for a store that cannot be read.
    """
    place, candidate = split_stored(name)
    if candidate.partition("@")[0] in (RECOMMENDED, BEST):
        raise UnknownCandidateError(f"{name!r} is another adapter when that search goes on: name it by KEY@NAME")
    store = Store(place)
    if not store.storage.exists(SWEEP_FILE):
        raise UnknownCandidateError(f"{store.uri} is no store: it has no {SWEEP_FILE}")
    return NamedAdapter(store, *find_candidate(store, candidate))
