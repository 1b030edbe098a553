"""What earlier sweeps have to tell a new one: their stores read once, before it begins."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import moocore
import numpy as np

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.analysis.confirmation import confirming_keys
from prunedlora.results.analysis.pareto import Objectives, front, points
from prunedlora.results.record import ObjectiveError
from prunedlora.results.recorded_settings import FULL, method
from prunedlora.results.store import Store
from prunedlora.results.warm_start_document import WarmSetting, WarmSource, WarmStart, named_option
from prunedlora.study.listed_configurations import canonical_params
from prunedlora.study.rebuild import objective_values
from prunedlora.study.warm_settings import NoSettingError, Translation
from prunedlora.study.warm_start import MOST_JUDGED, spread

MOST_FIRST = 4
"""Settings of earlier sweeps that are asked before the sampler is."""
MOST_SETTINGS = MOST_JUDGED
"""Trials that are kept of one store, evenly from the best to the worst."""


class WarmStartError(ValueError):
    """A store that tells this sweep nothing; the message says what would be right."""


def read_sources(config: SweepConfig, uris: Sequence[str], own: str) -> WarmStart:
    """What the stores at `uris` have for the sweep whose store is at `own`; nothing is written.

    Of a trial that completed there, its settings, and what it is told as (rebuild.objective_values). Failed and stopped
    trials are not taken: where one breaks another may hold. Raises WarmStartError, StoreError where there is no store,
    RecordError for a broken document.
    """
    if config.num_trials == 0:
        raise WarmStartError("--warm-start: nothing is searched (num_trials is 0), so there is nothing to learn for it")
    with named_option():
        stores = [Store(uri) for uri in uris]
    for i, store in enumerate(stores):
        if store.uri == own:
            raise WarmStartError(f"--warm-start {store.uri}: it is this sweep's own store; give those of earlier ones")
        if any(store.uri == other.uri for other in stores[:i]):
            raise WarmStartError(f"--warm-start {store.uri} is given twice")
    with named_option():
        read = [_read(config, store) for store in stores]
    return WarmStart(
        sources=tuple(source for source, _, _ in read),
        settings=tuple(setting for _, settings, _ in read for setting in settings),
        first=tuple(_first([best for _, _, best in read])),
    )


def _read(config: SweepConfig, store: Store) -> tuple[WarmSource, list[WarmSetting], list[dict[str, Any]]]:
    """The store, its settings from the best to the worst, and the parameters of those on its front, by size."""
    store.open()
    sweep = store.read_sweep()
    objectives = Objectives.parse(config.objectives)
    _check_objectives(objectives, Objectives.parse(sweep.get("objectives", {})), store)
    objectives = objectives.with_servers(config.serve_on)  # of earlier adapters too, whatever their sweep was for
    confirming = confirming_keys(store.confirmations())
    records = [
        record
        for record in store.records()
        if record.status == "completed" and record.key not in confirming and method(record) != FULL
    ]
    if not records:
        raise WarmStartError(f"--warm-start {store.uri}: none of its trials has completed")
    translation = Translation(config, sweep.get("trial", {}), [record.config for record in records])
    left_out: Counter[str] = Counter()
    settings: list[WarmSetting] = []
    for record in records:
        try:
            params = translation.params(record.config)
            values = tuple(objective_values(record, config.objectives, config.serve_on))
        except NoSettingError as error:
            left_out[str(error)] += 1
        except ObjectiveError:
            left_out["no value of an objective"] += 1
        else:
            settings.append(WarmSetting(source=store.uri, key=record.key, params=params, values=values))
    _check_taken(config, store, sweep, settings, left_out, len(records))
    source = WarmSource(
        uri=store.uri,
        name=str(sweep.get("name", store.uri)),
        num_completed=len(records),
        num_taken=len(settings),
        left_out=dict(sorted(left_out.items())),
    )
    by_key = {setting.key: setting.params for setting in settings}
    on_front = front(points([record for record in records if record.key in by_key], objectives), objectives)
    best = [dict(by_key[key]) for key in dict.fromkeys(point.key for point in on_front)]
    ordered = _best_first(settings, list(config.objectives.values()))
    return source, [ordered[i] for i in spread(len(ordered), MOST_SETTINGS)], best


def _check_objectives(ours: Objectives, its: Objectives, store: Store) -> None:
    if ours == its:
        return
    raise WarmStartError(
        f"--warm-start {store.uri}: its objectives are {its.quality} against {its.size}, this sweep's {ours.quality} "
        f"against {ours.size}; what was searched for other ends says nothing of these"
    )


def _check_taken(
    config: SweepConfig,
    store: Store,
    sweep: Mapping[str, Any],
    settings: Sequence[WarmSetting],
    left_out: Mapping[str, int],
    num_completed: int,
) -> None:
    if not settings:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in sorted(left_out.items()))
        raise WarmStartError(
            f"--warm-start {store.uri}: this sweep has none of its {num_completed} completed trials: {reasons}; widen "
            "the space, or set the base as it was there"
        )
    if len({canonical_params(setting.params) for setting in settings}) == 1 < len(settings):
        its = ", ".join(sweep.get("space") or ()) or "nothing"
        raise WarmStartError(
            f"--warm-start {store.uri}: no entry in common: it searched {its}, this sweep {', '.join(config.space)}, "
            "and its trials do not differ in any of these"
        )


def _best_first(settings: Sequence[WarmSetting], directions: Iterable[str]) -> list[WarmSetting]:
    """By front after front (https://ieeexplore.ieee.org/document/996017), within one by the last objective."""
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    ranks = moocore.pareto_rank(np.array([setting.values for setting in settings]) * signs).tolist()
    order = sorted(range(len(settings)), key=lambda i: (ranks[i], settings[i].values[-1], settings[i].key))
    return [settings[i] for i in order]


def _first(bests: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """At most MOST_FIRST settings: in turns from each source, spread over its front."""
    most = -(-MOST_FIRST // len(bests))
    spreads = [[best[i] for i in spread(len(best), most)] for best in bests]
    found: dict[str, dict[str, Any]] = {}
    for turn in range(most):
        for best in spreads:
            if turn < len(best):
                found.setdefault(canonical_params(best[turn]), best[turn])
    return list(found.values())[:MOST_FIRST]
