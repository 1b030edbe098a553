"""A recommendation in words, for the terminal, and as plain data."""

import json
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.configurations import Configuration
from prunedlora.results.analysis.harness_quality import examples_text, spent_text, split_text
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.analysis.recommendation import (
    Constraints,
    Recommendation,
    Rival,
    knee,
    recommend_with_confidence,
)
from prunedlora.results.analysis.summary import Summary, export_command, summarize
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.figure_text import figure_text, no_error_text
from prunedlora.results.report.tables import plain_table
from prunedlora.results.store import Store

MOST_ROWS = 8


class NothingToRecommendError(ValueError):
    """A store without an adapter that could be shipped; the message says why."""


def print_verdict(
    store: Store,
    console: Console,
    *,
    within: float,
    confidence: float,
    constraints: Constraints,
    as_json: bool,
    size: str | None = None,
) -> None:
    """Prints the recommendation with confidence, and how to export it. `size`: as for `summarize`.

    Raises NothingToRecommendError, and what `recommend_with_confidence` and `summarize` raise.
    """
    summary = summarize(store, size=size)
    found = recommend_with_confidence(summary, within=within, confidence=confidence, constraints=constraints)
    if found is None:
        raise NothingToRecommendError(summary.missing_answer())
    if as_json:
        print_plain(console, json.dumps(verdict_document(found, summary.objectives), indent=1))
        return
    console.print(verdict(found, summary.objectives))
    if spent := spent_text(summary.objectives.quality, None if summary.exported is None else summary.exported.test):
        print_plain(console, spent)
    _print_export(found.point, summary, console)


def print_knee(store: Store, console: Console, size: str | None = None) -> None:
    """Prints the knee of the front, and how to export it. Raises NothingToRecommendError for a front without one."""
    summary = summarize(store, size=size)
    point = knee(summary)
    if point is None:
        raise NothingToRecommendError("the front has no knee: it takes three candidates of a size above 0")
    figure = f"{summary.objectives.quality} {figure_text(point.quality)}"
    console.print(
        Text(
            f"Knee: {point.name}, {point.candidate.adapter_params:,} parameters, {figure} "
            f"({split_text(summary.objectives.quality)}): from here on a larger adapter gains least for its size. A "
            "look at the front, no statistics."
        )
    )
    _print_export(point, summary, console)


def _print_export(point: Point, summary: Summary, console: Console) -> None:
    print_plain(console, f"Export it: {export_command(summary, point, 'FOLDER')}")


def percent(share: float) -> str:
    """A share in percent, with the digits that it was given with: 0.995 is no certainty."""
    return f"{100 * share:.10g}%"


def verdict(found: Recommendation, objectives: Objectives) -> Group:
    """The answer in sentences, then who was compared."""
    parts: list[RenderableType] = [Text(" ".join(_sentences(found, objectives)))]
    rivals = [*reversed(found.open), *found.beaten][:MOST_ROWS]
    if rivals:
        parts.append(_table(found, rivals, objectives))
    return Group(*parts)


def verdict_document(found: Recommendation, objectives: Objectives) -> dict[str, Any]:
    """The same as plain JSON data."""

    def rival(one: Rival) -> dict[str, Any]:
        return {
            "candidate": one.point.name,
            "num_seeds": len(one.configuration.points),
            "size": one.point.size,
            "worse_by": one.shortfall,
            "at_most": one.bound if isfinite(one.bound) else None,
        }

    return {
        "recommended": _named(found.chosen, objectives),
        "best": _named(found.best_configuration, objectives),
        "worse_by_at_most": found.bound_of(found.point),
        "within": found.within,
        "confidence": found.confidence,
        "paired": found.paired,
        "caveats": [*found.caveats, *filter(None, [spent_text(objectives.quality)])],
        "num_examples": found.num_examples,
        "seed_deviation": found.seed_deviation,
        "proven_too": [rival(one) for one in found.beaten],
        "not_proven": [rival(one) for one in found.open],
        "would_settle": {
            "candidate": None if found.unsettled is None else found.unsettled.point.name,
            "either": [asdict(remedy) for remedy in found.remedies],
        },
    }


def _named(configuration: Configuration, objectives: Objectives) -> dict[str, Any]:
    point = configuration.point
    return {
        "candidate": point.name,
        objectives.quality: point.quality.value,
        objectives.size: point.size,
        "num_seeds": len(configuration.points),
        "params_over_seeds": list(configuration.param_range),
        "mean_over_seeds": configuration.mean,
        "stderr_over_seeds": configuration.stderr_over_seeds,
    }


def _sentences(found: Recommendation, objectives: Objectives) -> list[str]:
    point, best, quality = found.point, found.best, objectives.quality
    sure = f"{percent(found.confidence)} confidence"
    lines = [
        f"Recommended: {point.name}, {point.candidate.adapter_params:,} parameters, {quality} "
        f"{figure_text(point.quality)} ({split_text(quality)}{_over_seeds(found.chosen)})."
    ]
    if point.name == best.name:
        lines.append(
            f"It is the best itself: of no smaller adapter can it be said with {sure} that it is at most "
            f"{found.within:g} worse."
        )
    else:
        several = max(len(found.chosen.points), len(found.best_configuration.points)) > 1
        lines.append(
            f"{'In the mean over seeds it' if several else 'It'} is at most "
            f"{max(found.bound_of(point) or 0.0, 0.0):.4f} worse than the best, {best.name} ({quality} "
            f"{figure_text(best.quality)}{_over_seeds(found.best_configuration)}; {best.candidate.adapter_params:,} "
            f"parameters), with {sure}."
        )
    if found.chosen.missing:
        keys = ", ".join(record.key for record in found.chosen.missing)
        passed = "" if point.candidate.cut is None else ", or passed over this cut, which flatters the mean"
        lines.append(f"Not in its mean, having failed or ended earlier{passed}: {keys}.")
    if found.open:
        smallest = found.open[0]
        most = f"at most {smallest.bound:.4f}" if isfinite(smallest.bound) else "how much more is not known"
        lines.append(
            f"{len(found.open)} smaller measured well enough but not for sure, the smallest {smallest.point.name} with "
            f"{smallest.point.candidate.adapter_params:,} parameters, measured {smallest.shortfall:.4f} worse and "
            f"{most}."
        )
    lines += _remedies(found, quality)
    lines += found.caveats or ["Compared on the same examples, pair by pair."]
    lines.append(_seeds(found))
    lines += filter(None, [no_error_text([point.quality, best.quality])])
    return lines


def _over_seeds(configuration: Configuration) -> str:
    if configuration.stderr_over_seeds is None:
        return ""
    mean = f"{configuration.mean:.3f} ± {configuration.stderr_over_seeds:.3f}"
    fewest, most = configuration.param_range
    sizes = "" if fewest == most else f", of {fewest:,} to {most:,} parameters"
    return f"; {mean} over {len(configuration.points)} seeds{sizes}"


def _remedies(found: Recommendation, quality: str) -> list[str]:
    rival = found.unsettled
    if rival is None:
        known = any(isfinite(one.bound) for one in found.open)
        return ["They measured at the limit itself, which no affordable number of runs tells from it."] if known else []
    ways = []
    for remedy in found.remedies:
        parts = []
        if remedy.num_examples is not None:
            examples = examples_text(quality, remedy.num_examples)
            parts.append(f"about {remedy.num_examples:,} {examples} (now {found.num_examples:,})")
        if remedy.num_seeds is not None:
            now = (len(found.best_configuration.points), len(rival.configuration.points))
            parts.append(
                f"about {remedy.num_seeds} seeds each of {found.best.name} and {rival.point.name} (now {now[0]} and "
                f"{now[1]})"
            )
        ways.append(" together with ".join(parts))
    text = ", or ".join(ways)
    return [
        f"{text[0].upper()}{text[1:]} would settle the smallest of them that measured below the limit, if it stays as "
        "it measured."
    ]


def _seeds(found: Recommendation) -> str:
    """Whether noise between trainings is in the bounds, and what to run where it is not."""
    other = found.point if found.point.name != found.best.name else found.open[0].point if found.open else None
    if found.seed_deviation is None:
        if is_untrained(found.best.record) and (other is None or other.key == found.best.key):
            return (
                f"Trial {found.best.key} measured and cut one adapter and trained nothing: had that been trained with "
                "another seed, its cuts might lose more, or less."
            )
        if other is not None and other.key == found.best.key:
            return (
                f"Both are of one training, {other.key}, and share its seed: another may move them together, or apart. "
                "To know, train further seeds of its configuration, three at least."
            )
        names = found.best.name if other is None else f"{found.best.name} and {other.name}"
        return (
            "One training each: another seed may differ by more than this. To know, train further seeds of the "
            f"configuration{'' if other is None else 's'} of {names}, three at least."
        )
    compared = [found.best_configuration, *(rival.configuration for rival in found.rivals)]
    once = sum(len(configuration.points) == 1 for configuration in compared)
    size = (
        f"over seeds a standard deviation of {found.seed_deviation:.4f} beyond what the examples explain"
        if found.seed_deviation > 0
        else "seeds differ no more than the examples explain"
    )
    one = found.seed_degrees == 1
    repeated = "1 repeated training tells" if one else f"{found.seed_degrees} repeated trainings tell"
    text = f"Noise between trainings is in these bounds, as far as {repeated}: {size}"
    return f"{text}; {once} of {len(compared)} trained once are taken to vary as much." if once else f"{text}."


def _table(found: Recommendation, rivals: list[Rival], objectives: Objectives) -> Table:
    table = plain_table(f"Smaller than the best, at most this much worse with {percent(found.confidence)} confidence")
    table.add_column("trial", overflow="fold")
    for name in (objectives.quality, "seeds", "params", "worse by", "at most"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for rival in rivals:
        table.add_row(
            rival.point.name,
            figure_text(rival.point.quality),
            str(len(rival.configuration.points)),
            f"{rival.point.candidate.adapter_params:,}",
            f"{rival.shortfall:.4f}",
            f"{rival.bound:.4f}" if isfinite(rival.bound) else "?",
            "proven too" if rival.bound <= found.within else "not proven",
        )
    return table
