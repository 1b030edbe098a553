"""A recommendation in words, for the terminal, and as plain data."""

import json
import shlex
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunedlora.results.figure_text import figure_text
from prunedlora.results.pareto import Objectives, Point
from prunedlora.results.recommendation import Constraints, Recommendation, Rival, knee, recommend_with_confidence
from prunedlora.results.store import Store
from prunedlora.results.summary import Summary, summarize
from prunedlora.results.tables import plain_table

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
        console.print(
            json.dumps(verdict_document(found, summary.objectives), indent=1), highlight=False, soft_wrap=True
        )
        return
    console.print(verdict(found, summary.objectives))
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
            f"Knee: {point.name}, {point.candidate.adapter_params:,} parameters, {figure} (validation): from here on a "
            "larger adapter gains least for its size. A look at the front, no statistics."
        )
    )
    _print_export(point, summary, console)


def _print_export(point: Point, summary: Summary, console: Console) -> None:
    line = f"Export it: prunedlora export {shlex.quote(summary.store.uri)} {point.name} --to FOLDER"
    console.print(Text(line), soft_wrap=True)


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
        return {"candidate": one.point.name, "size": one.point.size, "worse_by": one.shortfall, "at_most": one.bound}

    return {
        "recommended": _named(found.point, objectives),
        "best": _named(found.best, objectives),
        "worse_by_at_most": found.bound_of(found.point),
        "within": found.within,
        "confidence": found.confidence,
        "paired": found.paired,
        "num_examples": found.num_examples,
        "proven_too": [rival(one) for one in found.beaten],
        "not_proven": [rival(one) for one in found.open],
        "examples_needed": found.examples_needed,
    }


def _named(point: Point, objectives: Objectives) -> dict[str, Any]:
    return {"candidate": point.name, objectives.quality: point.quality.value, objectives.size: point.size}


def _sentences(found: Recommendation, objectives: Objectives) -> list[str]:
    point, best, quality = found.point, found.best, objectives.quality
    sure = f"{percent(found.confidence)} confidence"
    lines = [
        f"Recommended: {point.name}, {point.candidate.adapter_params:,} parameters, {quality} "
        f"{figure_text(point.quality)} (validation)."
    ]
    if point.name == best.name:
        lines.append(
            f"It is the best itself: of no smaller adapter can it be said with {sure} that it is at most "
            f"{found.within:g} worse."
        )
    else:
        lines.append(
            f"It is at most {max(found.bound_of(point) or 0.0, 0.0):.4f} worse than the best, {best.name} ({quality} "
            f"{figure_text(best.quality)}, {best.candidate.adapter_params:,} parameters), with {sure}."
        )
    if found.open:
        smallest = found.open[0]
        lines.append(
            f"{len(found.open)} smaller measured well enough but not for sure, the smallest {smallest.point.name} with "
            f"{smallest.point.candidate.adapter_params:,} parameters, measured {smallest.shortfall:.4f} worse and at "
            f"most {smallest.bound:.4f}."
        )
        if (needed := found.examples_needed) is not None:
            lines.append(
                f"About {needed:,} validation examples (now {found.num_examples:,}) would settle the smallest of them "
                "that measured below the limit, if it stays as it measured."
            )
    lines.append(
        "Compared on the same examples, pair by pair."
        if found.paired
        else "Outcomes by example are not on record for all, so standard errors were taken for independent: cautious."
    )
    lines.append(
        "One training each: another seed may differ by more than this; train the two with further seeds to know."
    )
    return lines


def _table(found: Recommendation, rivals: list[Rival], objectives: Objectives) -> Table:
    table = plain_table(f"Smaller than the best, at most this much worse with {percent(found.confidence)} confidence")
    table.add_column("trial", no_wrap=True)
    for name in (objectives.quality, "params", "worse by", "at most"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for rival in rivals:
        table.add_row(
            rival.point.name,
            figure_text(rival.point.quality),
            f"{rival.point.candidate.adapter_params:,}",
            f"{rival.shortfall:.4f}",
            f"{rival.bound:.4f}",
            "proven too" if rival.bound <= found.within else "not proven",
        )
    return table
