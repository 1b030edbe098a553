"""How long an ask takes when a sweep is large: of the study that lives as long as the driver, and of a rebuilt one.

The trials are the made-up ones of report_speed.py. Both kinds take turns and must propose the same.
"""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from prunedlora.benchmarks.product.report_speed import made_up_trials
from prunedlora.config.sweep import SweepConfig
from prunedlora.study.kept_study import KeptStudy


def ask_seconds(
    config: SweepConfig, *, num_trials: Sequence[int], num_asks: int, num_candidates: int
) -> dict[str, Any]:
    """Median seconds of an ask after so many trials, kept and rebuilt, and how many times as long rebuilding takes;
    told as the sweep's `telling` says of trials of so many candidates."""
    made_up = made_up_trials(config, num_trials=max(num_trials) + num_asks, num_candidates=num_candidates)
    asks, records = [], {}
    for ask, record, _ in made_up:
        asks.append(ask)
        records[ask.key] = record

    def fresh() -> KeptStudy:
        return KeptStudy(config.space, config.objectives, config.sampler, config.seed, telling=config.telling)

    figures = []
    for number in num_trials:
        kept = fresh()
        spans: dict[str, list[float]] = {"kept": [], "rebuilt": []}
        for ended in range(number - 1, number + num_asks):
            told = {ask.number: records[ask.key] for ask in asks[:ended]}
            proposed = []
            for kind, study in (("kept", kept), ("rebuilt", fresh())):
                began = time.perf_counter()
                proposed.append(study.propose(asks[: ended + 1], told, num_concurrent=2))
                spans[kind].append(time.perf_counter() - began)
            assert proposed[0] == proposed[1]
        # The kept study's first ask, the driver's first as well, has everything to learn.
        seconds = {kind: median(each[1:]) for kind, each in spans.items()}
        ratio = seconds["rebuilt"] / seconds["kept"]
        figures.append({"num_trials": number, "seconds": seconds, "ratio": ratio})
    return {
        "sampler": config.sampler,
        "telling": config.telling,
        "num_candidates": num_candidates,
        "asks": figures,
    }
