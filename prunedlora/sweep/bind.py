"""Bind: what names on the Hub and data are for a sweep, found when it begins and the same ever after."""

from collections.abc import Iterable, Mapping
from typing import Any

from prunedlora.config.identity import KEY_VERSION
from prunedlora.config.pins import hub_names
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.sweep.every_trial import every_trial
from prunedlora.trial.commits import find_commits


def commits_of(config: SweepConfig, store: Store) -> dict[str, str | None]:
    """Commits of all names on the Hub: those on record, and for names that are not, those of now. Writes nothing.

    A name whose commit was not told when the sweep began is on record too, with None, and stays without: what trained
    until now may be of another commit than what the Hub tells today. Raises CommitError as `find_commits`.
    """
    known = store.binding.read_commits() if store.binding.is_bound() else {}
    return known | find_commits([name for name in hub_names(every_trial(config)) if name.text not in known])


def bind(
    store: Store, sweep: Mapping[str, Any], contents: Mapping[str, Any], commits: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Makes the store that of the sweep, for the driver that holds the lock; returns the commits that it is bound to.

    `sweep`: the whole of it as JSON data; `contents`: of identity.contents; `commits`: of `commits_of`. All is checked
    again: another driver may have begun, and ended, since it was checked without the lock. Raises StoreError.
    """
    binding = store.binding
    binding.check_key_version(KEY_VERSION)
    store.check(sweep)
    binding.check_contents(contents)
    bound = {**commits, **(binding.read_commits() if binding.is_bound() else {})}
    store.write_sweep(sweep)
    binding.write_key_version(KEY_VERSION)
    binding.write_contents(contents)
    binding.write_commits(bound)
    return bound


def check_fingerprints(store: Store, found: Iterable[tuple[dict[str, Any], str]]) -> None:
    """Raises StoreError when data of the sweep are not what they were when it began; writes nothing.

    `found`: findings.Findings.fingerprints.
    """
    if not store.binding.is_bound():
        return
    for data, fingerprint in found:
        known = store.binding.read_fingerprint(data)
        if known is not None and known != fingerprint:
            raise StoreError(
                f"{store.uri}: the data changed since this sweep began (training data {data['train']['name']!r}): "
                f"their fingerprint was {known}, is {fingerprint}; put them back, or give another storage"
            )


def bind_data(store: Store, found: Iterable[tuple[dict[str, Any], str]]) -> None:
    """Remembers what the data are, for the driver that holds the lock. Raises StoreError as `check_fingerprints`."""
    check_fingerprints(store, found)
    for data, fingerprint in found:
        store.binding.write_fingerprint(data, fingerprint)
