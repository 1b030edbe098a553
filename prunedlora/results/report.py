"""The report folder of a sweep: one HTML page that opens with the answer, and its figures as JSON and CSV."""

from collections import Counter

import yaml

from prunedlora.results.chart import SIZE_TITLES, front_chart, history_chart, rank_chart
from prunedlora.results.figure_text import figure_text
from prunedlora.results.front_files import candidates_csv, front_csv, front_json
from prunedlora.results.history import hypervolume_history
from prunedlora.results.page import render
from prunedlora.results.pareto import Point
from prunedlora.results.recommendation import Constraints, recommend_with_confidence
from prunedlora.results.record import Environment, to_json
from prunedlora.results.settings import varying
from prunedlora.results.store import Store
from prunedlora.results.summary import Summary, summarize

CONFIDENCE = 0.95
"""With which the report says how much worse than the best the recommended adapter may be."""


def write_report(
    store: Store, command: str | None = None, within: float | None = None, size: str | None = None
) -> Summary:
    """Writes report.html, front.json, front.csv and candidates.csv into the store's report folder.

    `command` is shown as the way to get the sweep again; `within` and `size` are as for `summarize`, whose errors it
    raises.
    """
    summary = summarize(store, within, size)
    for name, text in (
        ("front.json", front_json(summary)),
        ("front.csv", front_csv(summary)),
        ("candidates.csv", candidates_csv(summary)),
        ("report.html", report_html(summary, command)),
    ):
        store.storage.write_text(f"report/{name}", text)
    return summary


def report_html(summary: Summary, command: str | None = None) -> str:
    """A self-contained page: no request leaves it, and every text from outside is escaped."""
    test = None if summary.exported is None else summary.exported.test.get(summary.objectives.quality)
    environments = Counter(to_json(record.environment) for record in summary.records)
    charts = {}
    if summary.points:
        charts["front"] = front_chart(summary)
        charts["history"] = history_chart(hypervolume_history(summary))
    if summary.recommended is not None:
        charts["ranks"] = rank_chart(summary.recommended.candidate.ranks)
    return render(
        "report.html.jinja",
        charts,
        summary=summary,
        command=command,
        quality=summary.objectives.quality,
        size_title=SIZE_TITLES[summary.objectives.size],
        recommended=summary.recommended,
        test=test,
        comparisons=comparisons(summary),
        finished=len(summary.records) - len(summary.failed),
        empty_adapters=any(point.size == 0 for point in summary.points),
        paths=varying(point.record for point in summary.points),
        sure=_sure(summary),
        sweep_yaml=yaml.safe_dump(summary.sweep, sort_keys=False, allow_unicode=True),
        environments=[(Environment.model_validate_json(text), count) for text, count in environments.most_common()],
    )


def comparisons(summary: Summary) -> list[str]:
    """Sentences on how much smaller the recommended adapter is than the best and than the largest."""
    recommended = summary.recommended
    if recommended is None:
        return []
    lines = []
    for name, other in (("best", summary.best), ("largest tried", summary.largest)):
        if other is None:
            continue
        if other.name == recommended.name:
            lines.append(f"It is itself the {name}.")
        elif other.size > recommended.size > 0:
            lines.append(
                f"{_times(other, recommended)}× smaller than the {name} "
                f"({summary.objectives.quality} {figure_text(other.quality)})."
            )
    return lines


def _times(larger: Point, smaller: Point) -> str:
    return f"{larger.size / smaller.size:.3g}"


def _sure(summary: Summary) -> str:
    """What can be said of the recommended adapter with confidence."""
    found = recommend_with_confidence(summary, within=summary.within, confidence=CONFIDENCE, constraints=Constraints())
    if found is None or summary.recommended is None or summary.recommended.name == found.best.name:
        return ""
    bound, sure = found.bound_of(summary.recommended), f"{100 * CONFIDENCE:g}% confidence"
    if bound is None:
        return ""
    how = "example by example" if found.paired else "by their standard errors"
    what = (
        f"Compared {how} over {found.num_examples:,} validation examples, it is at most {max(bound, 0.0):.3f} worse "
        f"than the best with {sure}"
    )
    if bound <= summary.within:
        return f"{what}."
    proven = "the best itself" if found.point.name == found.best.name else found.point.name
    return f"{what}: that it is within {summary.within:g} is not proven. The smallest for which it is: {proven}."
