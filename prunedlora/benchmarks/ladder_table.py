"""A comparison of ladders as a table, and all figures behind it."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunedlora.benchmarks.ladder_results import Results
from prunedlora.benchmarks.ladder_sentences import answers
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.pareto import Objectives

WIDTH = 100
GAP = 2
"""After a column."""


def figures(name: str, results: Results, objectives: Objectives) -> dict[str, Any]:
    """The last line: {task: {variant: {quality: {parameters: [mean, stderr, n]}, hypervolume: [mean, stderr], steps}}}.
    A variant without a seed that has all of its sizes has no hypervolume: null."""
    variants = {}
    for variant, measured in results.variants.items():
        quality = {
            str(size): list(over_seeds(list(measured.quality(size, objectives.quality).values())))
            for size in sorted(measured.tests, reverse=True)
        }
        areas = list(results.areas(variant, objectives).values())
        area = list(over_seeds(areas)[:2]) if areas else None
        variants[variant] = {"quality": quality, "hypervolume": area, "steps": measured.variant.num_steps}
    return {name: variants}


def show(results: Results, objectives: Objectives, console: Console) -> None:
    """By variant its quality at each size, hypervolume, steps and rates, at most WIDTH wide: as many blocks of columns
    as that takes, each with all variants."""
    seeds = f"{results.plan.num_seeds} seed" + "s" * (results.plan.num_seeds > 1)
    smallest, largest = results.axis
    print_plain(
        console, f"Test {objectives.quality} by parameters, {seeds}; base model {results.base:.4g} on the test split"
    )
    print_plain(console, f"Hypervolume: mean gain above it along log10 of {smallest:,} to twice {largest:,} parameters")
    width = min(console.width, WIDTH)
    longest = max(map(len, ["variant", *results.variants]))
    name_width = min(longest, width // 3)
    columns = _columns(results, objectives)
    widths = [max(map(len, column)) for column in columns]
    for block in blocks(widths, width - name_width - GAP):
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("variant", overflow="fold", width=name_width)
        for number in block:
            table.add_column(columns[number][0], justify="right", overflow="fold", width=widths[number])
        for row, variant in enumerate(results.variants, start=1):
            table.add_row(Text(variant), *(columns[number][row] for number in block))
        console.print(table, width=width, highlight=False)
        console.print()
    for measured in results.variants.values():
        for what, failed in measured.missing.items():
            print_plain(console, f"{what}: no figures of seed {', '.join(map(str, failed))}, in no mean")


def blocks(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns in their order, by number, in as few blocks as fit: each at most `room` wide with GAP after each, or of a
    single column."""
    found: list[list[int]] = []
    left = 0
    for number, width in enumerate(widths):
        if not found or width + GAP > left:
            found.append([])
            left = room
        found[-1].append(number)
        left -= width + GAP
    return found


def details(results: Results, objectives: Objectives) -> dict[str, Any]:
    """Everything behind table and answers: test figures by seed, tuning, rates, failures."""
    return {
        "metric": objectives.quality,
        "plan": asdict(results.plan),
        "base": {"split": "test", objectives.quality: results.base},
        "hypervolume_axis": {"smallest": results.axis[0], "twice": results.axis[1]},
        "sizes": results.sizes,
        "tuning": results.tuning,
        "untuned": results.untuned,
        "refused": results.refused,
        "answers": answers(results, objectives)[1],
        "variants": {
            name: {
                "steps": measured.variant.num_steps,
                "learning_rate": measured.rates,
                "planned": measured.planned,
                "hypervolume": results.areas(name, objectives),
                "missing": measured.missing,
                "test": {
                    size: {seed: {n: f.value for n, f in of.items()} for seed, of in by_seed.items()}
                    for size, by_seed in measured.tests.items()
                },
            }
            for name, measured in results.variants.items()
        },
    }


def _columns(results: Results, objectives: Objectives) -> list[list[str]]:
    """Each with its header first, then a cell for each variant."""
    columns = [
        [f"{size:,}", *(_cell(of.quality(size, objectives.quality).values()) for of in results.variants.values())]
        for size in results.sizes
    ]
    columns.append(["hypervol.", *(_cell(results.areas(name, objectives).values()) for name in results.variants)])
    columns.append(["steps", *(f"{of.variant.num_steps:,}" for of in results.variants.values())])
    return [*columns, ["rate", *(_span(sorted(of.rates.values())) for of in results.variants.values())]]


def _span(rates: list[float]) -> str:
    return "" if not rates else f"{rates[0]:.3g}" + (f"-{rates[-1]:.3g}" if rates[-1] > rates[0] else "")


def _cell(values: Collection[float]) -> str:
    if not values:
        return ""
    mean, stderr, _ = over_seeds(list(values))
    spread = "" if stderr is None else f"±{stderr:.3f}".replace("±0.", "±.")
    return f"{mean:.3f}".replace("0.", ".", 1 if abs(mean) < 1 else 0) + spread
