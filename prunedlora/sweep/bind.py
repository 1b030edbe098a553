"""Bind: what names on the Hub and data are for a sweep, found when it begins and the same ever after."""

from collections.abc import Iterable
from typing import Any

from prunedlora.config.pins import references
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.sweep.preflight import every_trial
from prunedlora.trial.commits import find_commits


def commits_of(config: SweepConfig, store: Store) -> dict[str, str]:
    """Commits of all names on the Hub: those on record, and for names that are not, those of now. Writes nothing.

    Raises CommitError as `find_commits`.
    """
    known = store.read_commits() if store.is_bound() else {}
    return known | find_commits([each for each in references(every_trial(config)) if each.text not in known])


def check_fingerprints(store: Store, found: Iterable[tuple[dict[str, Any], str]]) -> None:
    """Raises StoreError when data of the sweep are not what they were when it began; writes nothing.

    `found`: findings.Findings.fingerprints.
    """
    if not store.is_bound():
        return
    for data, fingerprint in found:
        known = store.read_fingerprint(data)
        if known is not None and known != fingerprint:
            raise StoreError(
                f"{store.uri}: the data changed since this sweep began (training data {data['train']['name']!r}): "
                f"their fingerprint was {known}, is {fingerprint}; put them back, or give another storage"
            )


def bind_data(store: Store, found: Iterable[tuple[dict[str, Any], str]]) -> None:
    """Remembers what the data are, for the driver that holds the lock. Raises StoreError as `check_fingerprints`."""
    check_fingerprints(store, found)
    for data, fingerprint in found:
        store.write_fingerprint(data, fingerprint)
