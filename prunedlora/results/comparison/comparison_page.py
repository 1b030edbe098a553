"""comparison.html and comparison.json: a comparison to look at, and as plain data."""

import json
from dataclasses import asdict
from math import isinf
from typing import Any

from prunedlora.results.analysis.harness_quality import examples_text, split_text
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.seeds_condition import condition_document
from prunedlora.results.analysis.trainings import cost_of
from prunedlora.results.comparison.comparison_chart import differences_chart, fronts_chart
from prunedlora.results.comparison.fronts import Comparison, Contrast
from prunedlora.results.comparison.groups import Group, differing
from prunedlora.results.comparison.method_means import MethodContrast, Settings
from prunedlora.results.comparison.verdicts import Matched, interval
from prunedlora.results.comparison.words import (
    hypervolumes,
    notes,
    of_adapters,
    of_methods,
    tables_of,
    terms_of,
)
from prunedlora.results.figure_text import percent
from prunedlora.results.report.chart_style import size_title
from prunedlora.results.report.page import render
from prunedlora.results.storage import Storage


def write_comparison(comparison: Comparison, left_out: list[str], folder: str, command: str | None = None) -> str:
    """Writes comparison.html and comparison.json into a folder (a path or URI); returns the page's path or URI.

    `command` is shown as the way to get it again. Raises StoreError when the folder cannot be written.
    """
    storage = Storage(folder)
    storage.write_text("comparison.json", comparison_json(comparison, left_out))
    storage.write_text("comparison.html", comparison_html(comparison, left_out, command))
    return storage.uri_of("comparison.html")


def comparison_html(comparison: Comparison, left_out: list[str], command: str | None = None) -> str:
    """A self-contained page: no request leaves it, and every text from outside is escaped."""
    return render(
        __package__,
        "comparison.html.jinja",
        {"fronts": fronts_chart(comparison), "differences": differences_chart(comparison)},
        comparison=comparison,
        left_out=left_out,
        names=[group.name for group in comparison.groups],
        command=command,
        quality=comparison.objectives.quality,
        split=split_text(comparison.objectives.quality),
        examples=examples_text(comparison.objectives.quality),
        size_title=size_title(comparison.objectives),
        findings=[of(comparison, contrast) for contrast in comparison.contrasts for of in (of_methods, of_adapters)],
        tables=[
            (terms_of(comparison, contrast), title, rows)
            for contrast in comparison.contrasts
            for title, rows in tables_of(comparison, contrast)
        ],
        hypervolumes=hypervolumes(comparison),
        notes=notes(comparison),
        differing=differing(comparison.groups),
        confidence="" if comparison.unproven else percent(comparison.confidence),
        interval=interval,
    )


def comparison_json(comparison: Comparison, left_out: list[str]) -> str:
    return json.dumps(comparison_document(comparison, left_out), allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def comparison_document(comparison: Comparison, left_out: list[str]) -> dict[str, Any]:
    """The content of comparison.json, as plain JSON data."""
    objectives, origin = comparison.objectives, comparison.reference
    return {
        "objectives": objectives.as_dict(),
        "split": split_text(objectives.quality),
        "within": comparison.within,
        "confidence": comparison.confidence,
        "critical_values": dict(zip(("low", "high"), comparison.critical_values, strict=True)),
        "num_running": comparison.num_running,
        "reference_point": {objectives.quality: origin.quality, objectives.size: origin.size},
        "reference_rule": origin.rule,
        "control": comparison.control.name,
        "groups": [_group(group, area) for group, area in zip(comparison.groups, comparison.hypervolumes, strict=True)],
        "left_out": left_out,
        "differing": {
            path: dict(zip((group.name for group in comparison.groups), values, strict=True))
            for path, values in differing(comparison.groups).items()
        },
        "comparisons": [_contrast(comparison, contrast) for contrast in comparison.contrasts],
        "notes": notes(comparison),
    }


def _group(group: Group, area: float) -> dict[str, Any]:
    return {
        "name": group.name,
        "store": group.store.uri,
        "trials": len(group.records),
        "failed": group.num_failed,
        "candidates": len(group.points),
        "cost": asdict(cost_of(group.records)),
        "hypervolume": area,
        "best": _point(group.best),
        "recommended": None if group.recommended is None else _point(group.recommended),
        "front": [_point(point) for point in group.front],
    }


def _contrast(comparison: Comparison, contrast: Contrast) -> dict[str, Any]:
    methods, table = contrast.methods, {one.size for one in contrast.budgets}
    told = [" ".join(of(comparison, contrast)) for of in (of_methods, of_adapters)]
    return {
        "name": contrast.group.name,
        "against": comparison.control.name,
        "verdict": methods.verdict,
        "finding": " ".join(told),
        "methods": {**methods_document(methods), "finding": told[0]},
        "adapters": {
            "verdict": contrast.verdict,
            "why_not": comparison.unproven or None,
            "finding": told[1],
        },
        "common_sizes": None if contrast.common is None else list(contrast.common),
        "same_data": contrast.same_data,
        "sizes": [{**_matched(one), "in_table": one.size in table} for one in contrast.matched],
    }


def methods_document(methods: MethodContrast) -> dict[str, Any]:
    """What is told of two methods, as plain JSON data."""
    sizes = [{**_matched(one), "seeds": [len(of.points) for of in (one.group, one.control)]} for one in methods.at]
    return {
        "verdict": methods.verdict,
        "why_not": methods.why_not or None,
        "condition": condition_document(methods.fewest_seeds) if methods.at else None,
        "fallen": list(methods.fallen),
        "sizes": sizes,
    }


def _matched(one: Matched[Point | Settings]) -> dict[str, Any]:
    def side(of: Point | Settings, choices: int) -> dict[str, Any]:
        shown = of if isinstance(of, Point) else of.points[0]
        facts = {"candidate": of.name, "label": shown.record.label, "size": of.size, "best_of": choices}
        return facts | of.quality.model_dump()

    return {
        "at_most": one.size,
        "adapter": side(one.group, one.group_choices),
        "against": side(one.control, one.control_choices),
        "better_by": one.difference,
        "low": None if isinf(one.low) else one.low,
        "high": None if isinf(one.high) else one.high,
        "paired": one.paired,
        "verdict": one.verdict,
    }


def _point(point: Point) -> dict[str, Any]:
    return {"candidate": point.name, "label": point.record.label, "size": point.size, **point.quality.model_dump()}
