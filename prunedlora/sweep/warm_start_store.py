"""Which earlier sweeps a search was warm-started with, settled before it begins and the same ever after."""

from collections.abc import Sequence

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.results.warm_start_document import (
    WarmStart,
    named_option,
    read_warm_start,
    taken_lines,
    write_warm_start,
)

ASK_THE_BEST_ONLY = ("nsga2", "random")
"""Samplers that learn nothing from trials of others: a generation's parents are its own, and a draw has none."""
NOTHING = WarmStart(sources=(), settings=(), first=())


def settle_warm_start(config: SweepConfig, store: Store, given: Sequence[str]) -> WarmStart:
    """What the sweep of this store remembers: what lies in it, even if its search never came to ask, else what the
    stores `given` have to tell. Others than lie in it count only as long as nothing was asked.

    Nothing is written. A search that goes on needs no other store: they may be given again, or not at all. Raises
    StoreError for others than it began with, and what `read_sources` raises.
    """
    known = read_warm_start(store)
    with named_option():
        uris = [Store(uri).uri for uri in given]
    began = [] if known is None else _uris(known)
    stays = known is not None and (not uris or sorted(uris) == sorted(began))
    if not uris and not stays:
        return NOTHING
    if not stays and _has_asked(store):
        what = f"with --warm-start {' '.join(began)}, not {' '.join(uris)}" if began else "without --warm-start"
        raise StoreError(
            f"{store.uri} was begun {what}: what a search knows at its beginning stays; leave the option out, or give "
            "another storage"
        )
    # Here: it takes Optuna.
    from prunedlora.study.warm_reading import WarmStartError, read_sources

    if config.telling == "area":
        raise WarmStartError(
            "--warm-start has no use for telling 'area', which has one objective where earlier trials have two: take "
            "telling 'candidates'"
        )
    return known if known is not None and stays else read_sources(config, given, store.uri)


def replaced_lines(store: Store, memory: WarmStart) -> list[str]:
    """What is to be said before `memory` takes the place of what lies in the store, of which nothing was asked."""
    known = read_warm_start(store)
    if known is None or _uris(known) == _uris(memory):
        return []
    return [f"Warm start: {' '.join(_uris(memory))} instead of {' '.join(_uris(known))}, since nothing was asked yet"]


def keep_warm_start(store: Store, memory: WarmStart) -> None:
    """Remembers it in the store, for the driver that holds the lock; before the search asks. Raises StoreError when
    another driver has begun meanwhile, with another memory."""
    known = read_warm_start(store) or NOTHING
    if known == memory:
        return
    if not memory.sources or _has_asked(store):
        raise StoreError(f"{store.uri}: another driver began its search meanwhile; run the same command again")
    write_warm_start(store, memory)


def warm_start_lines(memory: WarmStart, sampler: str) -> list[str]:
    """What --dry-run says of it."""
    if not memory.sources:
        return []
    lines = [f"Warm start: {line}" for line in taken_lines(memory)]
    if sampler in ASK_THE_BEST_ONLY:
        lines.append(f"Warm start: {sampler} makes no more of them; tpe and gp learn from all")
    return lines


def _uris(memory: WarmStart) -> list[str]:
    return [source.uri for source in memory.sources]


def _has_asked(store: Store) -> bool:
    return any(ask.kind == "search" for ask in store.asks())
