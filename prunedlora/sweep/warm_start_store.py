"""Which earlier sweeps a search was warm-started with, settled before it begins and the same ever after."""

from collections.abc import Sequence

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.results.warm_start_document import WarmStart, read_warm_start, taken_lines, write_warm_start

ASK_THE_BEST_ONLY = ("nsga2", "random")
"""Samplers that learn nothing from trials of others: a generation's parents are its own, and a draw has none."""
NOTHING = WarmStart(sources=(), settings=(), first=())


def settle_warm_start(config: SweepConfig, store: Store, given: Sequence[str]) -> WarmStart:
    """What the sweep of this store remembers: what its search began with, else what the stores `given` have to tell.

    Nothing is written. A search that goes on needs no other store: they may be given again, or not at all. Raises
    StoreError for others than it began with, and what `read_sources` raises.
    """
    known = read_warm_start(store)
    uris = [Store(uri).uri for uri in given]
    if known is not None and store.binding.is_bound():
        began = [source.uri for source in known.sources]
        if uris and sorted(uris) != sorted(began):
            raise StoreError(
                f"{store.uri} was begun with --warm-start {' '.join(began)}, not {' '.join(uris)}: what a search "
                "knows at its beginning stays; leave the option out, or give another storage"
            )
        return known
    if not uris:
        return NOTHING
    if any(ask.kind == "search" for ask in store.asks()):
        raise StoreError(
            f"{store.uri} was begun without --warm-start: what a search knows at its beginning stays; leave the option "
            "out, or give another storage"
        )
    # Here: it takes Optuna.
    from prunedlora.study.warm_reading import WarmStartError, read_sources

    if config.telling == "area":
        raise WarmStartError(
            "--warm-start has no use for telling 'area', which has one objective where earlier trials have two: take "
            "telling 'candidates'"
        )
    return read_sources(config, given, store.uri)


def keep_warm_start(store: Store, memory: WarmStart) -> None:
    """Remembers it in the store, for the driver that holds the lock; before the search asks. Raises StoreError when
    another driver has begun meanwhile, with another memory."""
    known = read_warm_start(store) or NOTHING
    if known == memory:
        return
    if any(ask.kind == "search" for ask in store.asks()):
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
