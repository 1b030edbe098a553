"""A comparison of ladders in words: the table, the answers, and all figures behind them."""

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from prunedlora.benchmarks.ladder_answers import Answer, Paired, at_most, everywhere, paired, place
from prunedlora.benchmarks.ladder_comparison import Measured, Results
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.pareto import Objectives

WIDTH = 100


def figures(name: str, results: Results, objectives: Objectives) -> dict[str, Any]:
    """The last line: {task: {variant: {quality: {parameters: [mean, stderr, n]}, hypervolume: [mean, stderr], steps}}}.
    A variant without a seed that has all of its sizes has no hypervolume: null."""
    variants = {}
    for variant, measured in results.variants.items():
        quality = {
            str(size): list(over_seeds(list(measured.quality(size, objectives.quality).values())))
            for size in sorted(measured.tests, reverse=True)
        }
        area = list(over_seeds(list(measured.areas.values()))[:2]) if measured.areas else None
        variants[variant] = {"quality": quality, "hypervolume": area, "steps": measured.variant.num_steps}
    return {name: variants}


def show(results: Results, objectives: Objectives, console: Console) -> None:
    """The table, at most WIDTH wide: by variant its quality at each size, steps, rates, hypervolume."""
    seeds = f"{results.plan.num_seeds} seed" + "s" * (results.plan.num_seeds > 1)
    title = f"Test {objectives.quality} by parameters, {seeds}; base model {results.base:.4g}"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("variant", overflow="fold")
    for column in [*(f"{size:,}" for size in results.sizes), "hypervol.", "steps", "rate"]:
        table.add_column(column, justify="right", no_wrap=True)
    for variant, measured in results.variants.items():
        cells = [list(measured.quality(size, objectives.quality).values()) for size in results.sizes]
        rates = sorted(measured.rates.values())
        span = "" if not rates else f"{rates[0]:.3g}" + (f"-{rates[-1]:.3g}" if rates[-1] > rates[0] else "")
        steps = f"{measured.variant.num_steps:,}"
        table.add_row(variant, *map(_cell, [*cells, list(measured.areas.values())]), steps, span)
    console.print(table, width=min(console.width, WIDTH))
    for measured in results.variants.values():
        for what, failed in measured.missing.items():
            print_plain(console, f"{what}: no figures of seed {', '.join(map(str, failed))}, in no mean")


def answers(results: Results, objectives: Objectives) -> tuple[list[str], dict[str, Any]]:
    """What `--ladder` loses to `--reference` at each size, and where it is over all sizes; as sentences, and all
    figures."""
    plan, lines = results.plan, []
    found: dict[str, Any] = {}
    if plan.ladder is None:
        return [], {}
    if plan.num_rates == 1:
        lines.append("One rate, not tuned: a hint.")
    ladder = results.variants[plan.ladder]
    if plan.reference is not None:
        reference = results.variants[plan.reference]
        lines.append(f"What {plan.ladder} loses to {plan.reference} ({_share(ladder, reference)} of its steps):")
        given: list[Answer] = []
        found["loses"] = {"to": plan.reference, "margin": plan.margin, "at": {}}
        for size in sorted(ladder.tests.keys() & reference.tests.keys(), reverse=True):
            lost = _lost(ladder, reference, size, objectives)
            if not lost:
                continue
            mean = over_seeds(list(reference.quality(size, objectives.quality).values()))[0]
            margin = plan.margin if objectives.maximize else plan.margin * mean
            loss = paired(lost)
            given.append(at_most(loss, margin))
            found["loses"]["at"][str(size)] = asdict(loss) | {"margin": margin, "answer": given[-1]}
            lines.append(f"  {size:,} parameters: {_words(loss)}; at most {margin:.4g}? {given[-1]}")
        found["loses"]["everywhere"] = everywhere(given)
        why = "an intersection-union test: yes only where each size says so, so nothing is corrected"
        lines.append(f"  at every size? {everywhere(given)} ({why})")
    found["hypervolume"] = {"of": plan.ladder, "minus": {}}
    for name, other in results.variants.items():
        both = [ladder.areas[seed] - other.areas[seed] for seed in ladder.areas if seed in other.areas]
        if name == plan.ladder or not both:
            continue
        difference, told = paired(both), place(paired(both))
        found["hypervolume"]["minus"][name] = asdict(difference) | {"answer": told}
        is_rival = ", the rival" if name == plan.rival else ""
        lines.append(f"Hypervolume of {plan.ladder} minus that of {name}{is_rival}: {told}; {_words(difference)}")
    return lines, found


def details(results: Results, objectives: Objectives) -> dict[str, Any]:
    """Everything behind table and answers: test figures by seed, tuning, rates, failures."""
    return {
        "metric": objectives.quality,
        "plan": asdict(results.plan),
        "base": results.base,
        "sizes": results.sizes,
        "tuning": results.tuning,
        "untuned": results.untuned,
        "refused": results.refused,
        "answers": answers(results, objectives)[1],
        "variants": {
            name: {
                "steps": measured.variant.num_steps,
                "learning_rate": measured.rates,
                "hypervolume": measured.areas,
                "missing": measured.missing,
                "test": {
                    size: {seed: {n: f.value for n, f in of.items()} for seed, of in by_seed.items()}
                    for size, by_seed in measured.tests.items()
                },
            }
            for name, measured in results.variants.items()
        },
    }


def _lost(ladder: Measured, reference: Measured, size: int, objectives: Objectives) -> list[float]:
    ours, theirs = (each.quality(size, objectives.quality) for each in (ladder, reference))
    return [objectives.gain(theirs[seed]) - objectives.gain(ours[seed]) for seed in ours if seed in theirs]


def _share(ladder: Measured, reference: Measured) -> str:
    return f"{ladder.variant.num_steps / reference.variant.num_steps:.2f}"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean, stderr, _ = over_seeds(values)
    spread = "" if stderr is None else f"±{stderr:.3f}".replace("±0.", "±.")
    return f"{mean:.3f}".replace("0.", ".", 1 if abs(mean) < 1 else 0) + spread


def _words(of: Paired) -> str:
    if of.stderr is None:
        return f"{of.mean:+.4f}, one seed"
    return f"{of.mean:+.4f} ± {of.stderr:.4f}, one-sided 95 % from {of.lower:+.4f}, to {of.upper:+.4f}, {of.num} seeds"
