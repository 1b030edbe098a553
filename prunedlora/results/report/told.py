"""What the decision says of one adapter that is handed over: sentences for its card, plain data for its certificate."""

from dataclasses import dataclass
from typing import Any

from prunedlora.results.analysis.decision import Decision, Standing, decide
from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.serve_text import params_text, serve_document, serve_sentences
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.yardstick import warning
from prunedlora.results.figure_text import figure_text
from prunedlora.results.report.verdict import limits_sentences, rule_sentence, sureness, without_file


@dataclass(frozen=True)
class Told:
    """Of one adapter, in the words of the decision (verdict.py)."""

    sentences: tuple[str, ...]
    document: dict[str, Any]
    is_chosen: bool
    """Whether it was compared with others, by what it measured on the validation split."""


def told_of(summary: Summary, name: str) -> Told | None:
    """What the sweep's own decision says of the adapter called `name` (Point.name): that it is the recommended one, or
    how it stands beside that and the best. None for what the decision does not know: it has no adapter file, was not
    measured, or was trained to confirm another. Raises RecordError for broken outcomes."""
    decision = decide(summary)
    one = None if decision is None else decision.standings.get(name)
    if decision is None or one is None:
        return None
    doubt, caveats = warning(summary, one.point), decision.caveats if decision.num_compared > 1 else ()
    is_recommended = name == decision.recommended.point.name
    rule = (
        f"Its sweep recommends it. {rule_sentence(decision, summary)}"
        if is_recommended
        else _beside(decision, one, summary)
    )
    lines = [
        rule,
        *limits_sentences(decision),
        *serve_sentences(summary, one.point),
        *without_file(decision, summary),
        sureness(decision, one),
        *caveats,
    ]
    return Told(
        sentences=(*filter(None, [doubt]), f"On {split_text(summary.objectives.quality)}: {lines[0]}", *lines[1:]),
        document=_document(decision, one, summary),
        is_chosen=decision.num_compared > 1,
    )


def _beside(decision: Decision, one: Standing, summary: Summary) -> str:
    quality, best, named = summary.objectives.quality, decision.best.point, decision.recommended.point
    return (
        f"Its sweep recommends another, {named.name} ({params_text(named)}, {quality} "
        f"{figure_text(named.quality)}), by a margin of {decision.within:g}. This one measured {one.shortfall:.4f} "
        f"worse than the best, {best.name} ({quality} {figure_text(best.quality)})."
    )


def _document(decision: Decision, one: Standing, summary: Summary) -> dict[str, Any]:
    best, quality = decision.best.point, summary.objectives.quality
    proven = one.is_proven(decision.within)
    return {
        "recommended": decision.recommended.point.name,
        "is_recommended": one.point.name == decision.recommended.point.name,
        "within": decision.within,
        "limits": dict(decision.limits),
        **serve_document(summary),
        "told": "proven" if proven else "measured" if one.shortfall <= decision.within else "not within",
        "best": best.name,
        f"best_{quality}": best.quality.value,
        "worse_by": one.shortfall,
        "at_most": one.bound,
        "confidence": decision.confidence,
        "num_compared": decision.num_compared,
        "unproven": decision.unproven or None,
        "caveats": list(decision.caveats),
        "warning": warning(summary, one.point) or None,
    }
