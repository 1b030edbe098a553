"""Is stated confidence kept? Sweeps with known truth, simulated and judged by the code that judges real ones."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from prunedlora.benchmarks.product.simulated_decisions import DECISIONS, Told
from prunedlora.benchmarks.product.simulated_settings import BEYOND_THE_CONDITION, SETTINGS
from prunedlora.results.report.tables import plain_table

LEVELS = (0.8, 0.9, 0.95, 0.99)


class Scenario(Protocol):
    def told(self, levels: Sequence[float], num_draws: int, rng: np.random.Generator) -> Mapping[float, Told]:
        """What came of one simulated sweep, by level."""


SCENARIOS: Mapping[str, Scenario] = {**DECISIONS, **SETTINGS}
NOT_COVERED: Mapping[str, Scenario] = BEYOND_THE_CONDITION
"""Outside of what is stated, to show what that costs where it is so all the same."""


def tally(scenario: Scenario, *, num_sweeps: int, num_draws: int, seed: int) -> dict[float, dict[str, float]]:
    """Level → share of simulated sweeps in which each statement held."""
    rng = np.random.default_rng(seed)
    all_told = [scenario.told(LEVELS, num_draws, rng) for _ in range(num_sweeps)]
    return {
        level: {name: sum(told[level][name] for told in all_told) / num_sweeps for name in all_told[0][level]}
        for level in LEVELS
    }


def print_coverage(*, num_sweeps: int, num_draws: int, seed: int, console: Console) -> dict[str, Any]:
    """All scenarios, printed as a table while they are judged; returns the shares and the seconds of each."""
    document: dict[str, Any] = {"num_sweeps": num_sweeps, "num_draws": num_draws, "seed": seed}
    seconds = {}
    table = plain_table("Kept, of what was stated: all bounds (how often something was said)")
    table.add_column("scenario", no_wrap=True)
    for level in LEVELS:
        table.add_column(f"{level:g}", justify="right", no_wrap=True)
    for part, scenarios in (("scenarios", SCENARIOS), ("not_covered", NOT_COVERED)):
        found = document.setdefault(part, {})
        for name, scenario in scenarios.items():
            began = time.perf_counter()
            shares = tally(scenario, num_sweeps=num_sweeps, num_draws=num_draws, seed=seed)
            seconds[name] = round(time.perf_counter() - began, 1)
            found[name] = {f"{level:g}": shares[level] for level in LEVELS}
            shown = name if part == "scenarios" else f"not covered: {name}"
            table.add_row(shown, *(_cell(shares[level]) for level in LEVELS))
    console.print(table)
    return document | {"seconds": seconds}


def _cell(shares: Mapping[str, float]) -> str:
    said = [share for name, share in shares.items() if name.startswith("says_")]
    return f"{shares['bounds_hold']:.3f}" + "".join(f" ({share:.2f})" for share in said)
