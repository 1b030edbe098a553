"""What parts of the search bring: steps that each variant needs for what TPE with one point a run has in the end."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prunedlora.benchmarks.product.search_replay import Course, Replay, Stopping, Variant, area_over
from prunedlora.benchmarks.product.search_table import Laboratory

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the budget, at which the table has hypervolumes."""
YARDSTICK = "TPE, one point a run"
FULL = "ladders, candidates told, stopping"
VARIANTS: Mapping[str, Variant] = {
    "random, one point a run": Variant("single", "random"),
    "NSGA-II, one point a run": Variant("single", "nsga2"),
    YARDSTICK: Variant("single", "tpe"),
    "TPE, one point a run, stopping": Variant("single", "tpe", stopping=Stopping()),
    "TPE, one point a run, aimed": Variant("single", "tpe", {"num_aimed": 8, "planned": True}),
    "random, ladders": Variant("ladder", "random"),
    "ladders": Variant("ladder", "tpe"),
    "ladders, candidates told": Variant("ladder", "tpe", {"telling": "candidates"}),
    "ladders, area told": Variant("ladder", "tpe", {"telling": "area", "planned": True}),
    "ladders, stopping": Variant("ladder", "tpe", stopping=Stopping()),
    "ladders, area told, stopping": Variant("ladder", "tpe", {"telling": "area", "planned": True}, Stopping()),
    FULL: Variant("ladder", "tpe", {"telling": "candidates"}, Stopping()),
    "the same, stopping at candidates alone": Variant("ladder", "tpe", {"telling": "candidates"}, Stopping(looks=())),
    "the same, first look at 0.3": Variant("ladder", "tpe", {"telling": "candidates"}, Stopping(looks=(0.3,))),
    "the same, look at 0.1, quasi-random start": Variant(
        "ladder", "tpe", {"telling": "candidates", "startup": "quasi_random"}, Stopping()
    ),
}
"""Parts switched on in turn; telling and stopping are settings of a sweep."""
NEEDED = (YARDSTICK, FULL)


@dataclass(frozen=True)
class Comparison:
    """Searches of one table by all variants, seed by seed."""

    budget: int
    """Steps that each search has."""
    courses: Mapping[str, Sequence[Course]]

    def ratios(self, name: str) -> list[float]:
        """By seed: steps until the variant has the hypervolume that the yardstick has at its full budget, as a share of
        the budget; infinite where it has not within the same budget."""
        ends = [course.at(self.budget) for course in self.courses[YARDSTICK]]
        steps = [course.steps_to(end) for course, end in zip(self.courses[name], ends, strict=True)]
        return [math.inf if each is None else each / self.budget for each in steps]

    def figures(self) -> dict[str, Any]:
        """{"compute_ratio", "quartiles", "num_seeds", "budget", "parts": {variant: {"ratio", "quartiles",
        "num_unreached", "hypervolume": {share of the budget: median}, "num_runs", "num_stopped"}}}; null for what lies
        beyond the budget."""
        parts = {}
        for name, courses in self.courses.items():
            ratios = self.ratios(name)
            parts[name] = {
                "ratio": _finite(statistics.median(ratios)),
                "quartiles": [_finite(each) for each in quartiles(ratios)],
                "num_unreached": sum(math.isinf(each) for each in ratios),
                "hypervolume": {
                    str(share): round(statistics.median(course.at(share * self.budget) for course in courses), 4)
                    for share in SHARES
                },
                "num_runs": statistics.median(course.num_runs for course in courses),
                "num_stopped": statistics.median(course.num_stopped for course in courses),
            }
        full = parts[FULL]
        return {
            "compute_ratio": full["ratio"],
            "quartiles": full["quartiles"],
            "num_seeds": len(self.courses[FULL]),
            "budget": self.budget,
            "parts": parts,
        }


def compare(
    laboratories: Mapping[str, Laboratory],
    *,
    base: float,
    num_runs: int,
    num_seeds: int,
    num_slots: int,
    names: Sequence[str] = tuple(VARIANTS),
    say: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Replays every variant with seeds 0, 1, …; the budget is `num_runs` whole trainings of one point."""
    lowest, highest = zip(*(laboratory.axis for laboratory in laboratories.values()), strict=True)
    area = area_over((min(lowest), max(highest)), base)
    budget = num_runs * max(training.steps for training in laboratories["single"].trainings.values())
    courses = {}
    for name in names:
        variant = VARIANTS[name]
        courses[name] = [
            Replay(laboratories[variant.kind], variant, seed=seed, num_slots=num_slots, area=area).course(budget)
            for seed in range(num_seeds)
        ]
        say(f"replayed: {name}")
    return Comparison(budget, courses)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper one: of the sorted values those at a quarter and three quarters, none invented between
    two, since values may be infinite."""
    ordered = sorted(values)
    return ordered[math.floor((len(ordered) - 1) / 4)], ordered[math.ceil(3 * (len(ordered) - 1) / 4)]


def show(comparison: Comparison, title: str, console: Console) -> None:
    """One line for each variant."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    table.add_column("variant", overflow="fold")
    for share in SHARES:
        table.add_column(f"{share:g}", justify="right")
    for name in ("steps for the same", "runs", "stopped"):
        table.add_column(name, justify="right")
    for name, part in comparison.figures()["parts"].items():
        low, high = part["quartiles"]
        words = [_word(each) for each in (part["ratio"], low, high)]
        table.add_row(
            name,
            *(f"{area:.3f}" for area in part["hypervolume"].values()),
            f"{words[0]} ({words[1]} to {words[2]})",
            f"{part['num_runs']:g}",
            f"{part['num_stopped']:g}",
        )
    console.print(table, highlight=False)


def chart(comparison: Comparison) -> go.Figure:
    """Median hypervolume against steps, as a share of the budget."""
    places = [each / 100 for each in range(1, 101)]
    figure = go.Figure()
    for name, courses in comparison.courses.items():
        medians = [statistics.median(course.at(share * comparison.budget) for course in courses) for share in places]
        figure.add_scatter(x=places, y=medians, name=name, mode="lines", line={"shape": "hv"})
    figure.update_layout(
        xaxis_title=f"steps, as a share of {comparison.budget:,}", yaxis_title="hypervolume, median over seeds"
    )
    return figure


def _word(ratio: float | None) -> str:
    return "more" if ratio is None else f"{ratio:.2f}"


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else round(value, 4)
