"""The decision in words, which page, terminal and card share, and as plain data."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from prunedlora.limit_text import limit_text
from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.configurations import Configuration
from prunedlora.results.analysis.confirmation_text import fresh_sentences
from prunedlora.results.analysis.constraints import Constraints
from prunedlora.results.analysis.decision import Decision, Standing, decide
from prunedlora.results.analysis.harness_quality import examples_text, spent_text, split_text
from prunedlora.results.analysis.serve_text import form_kinds, params_text, serve_document, serve_sentences
from prunedlora.results.analysis.serving import refused_text
from prunedlora.results.analysis.summary import Summary, export_command, summarize
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.analysis.yardstick import warning
from prunedlora.results.figure_text import figure_text, no_error_text, percent
from prunedlora.results.report.choices import choices_table
from prunedlora.results.store import Store


class NothingToRecommendError(ValueError):
    """A store without an adapter that could be shipped; the message says why."""


def print_verdict(
    store: Store,
    console: Console,
    *,
    within: float | None,
    confidence: float,
    constraints: Constraints,
    proven: bool,
    as_json: bool,
    size: str | None = None,
    serve_on: Sequence[str] | None = None,
) -> None:
    """Prints the decision, and how to export the adapter. `size`, `serve_on`: as for `summarize`; `proven`: names the
    smallest that is proven in the place of the smallest measured.

    Raises NothingToRecommendError, and what `decide` and `summarize` raise.
    """
    summary = summarize(store, size=size, serve_on=serve_on)
    found = decide(summary, within=within, confidence=confidence, constraints=constraints)
    if found is None:
        where = f" prunedlora report {shlex.quote(store.uri)} tells why they failed." if summary.failed else ""
        raise NothingToRecommendError(f"{summary.missing_answer()}{where}")
    if as_json:
        print_plain(console, json.dumps(decision_document(found, summary), allow_nan=False, indent=1))
        return
    named = found.proven if proven else found.recommended
    lines = proven_sentences(found, summary) if proven else sentences(found, summary)
    if named is not None:
        lines = [*filter(None, [warning(summary, named.point)]), *lines]
        lines += fresh_sentences(summary.confirmations, named.point.name, summary.objectives)
    console.print(Text(" ".join(lines)))
    console.print(choices_table(found, summary))
    shown = {one.standing.point.name: one.standing.point.candidate for one in found.choices}
    if refused := refused_text(list(shown.values())):
        print_plain(console, refused)
    if named is not None:
        print_plain(console, f"Export it: {export_command(summary, named.point, 'FOLDER')}")


def sentences(decision: Decision, summary: Summary) -> list[str]:
    """The answer, how sure it is, what would settle it, and what it does not say; without markup."""
    quality, one = summary.objectives.quality, decision.recommended
    return [
        f"Recommended: {_measured(one, summary)}.",
        *limits_sentences(decision),
        *serve_sentences(summary, decision.recommended.point),
        *_asked(decision, summary),
        rule_sentence(decision, summary),
        *without_file(decision, summary),
        sureness(decision, decision.recommended),
        *_remedies(decision, summary),
        *_compared(decision, summary),
        *settings_sentences(decision),
        *filter(None, [_luck(decision, summary), no_error_text([one.point.quality, decision.best.point.quality])]),
        *filter(None, [spent_text(quality, None if summary.exported is None else summary.exported.test)]),
    ]


def proven_sentences(decision: Decision, summary: Summary) -> list[str]:
    """The same for whoever asks for what is proven only."""
    one = decision.proven
    if one is None:
        why = decision.unproven or (
            f"Of no adapter is it proven with {percent(decision.confidence)} confidence that it is at most "
            f"{decision.within:g} worse than the truly best."
        )
        return [why, f"Measured so: {_measured(decision.recommended, summary)}.", *_remedies(decision, summary)]
    return [
        f"The smallest that is proven at most {decision.within:g} worse than the best: {_measured(one, summary)}.",
        f"{_bound_sentence(one, decision)}.",
        *serve_sentences(summary, one.point),
        *_compared(decision, summary),
        *filter(None, [_luck(decision, summary)]),
    ]


def settings_sentences(decision: Decision) -> list[str]:
    """What other trainings of the recommended adapter's settings tell, and that the bounds do not: they are of the
    adapters as they are."""
    one, settings = decision.recommended.point, decision.settings
    if is_untrained(one.record):
        return [
            f"Trial {one.key} measured and cut one adapter and trained nothing: had that been trained with another "
            "seed, its cuts might lose more, or less."
        ]
    lines, what = [], "Figures" if decision.unproven else "Bounds"
    if settings.num_trainings > 1:
        lines.append(f"These settings: {settings_text(settings)}.")
    if len(settings.points) < 2 or settings.num_failed:
        lines.append(
            f"{what} are of this adapter as it is; what other trainings of its settings would give is another "
            "question, which prunedlora confirm answers."
        )
    return lines


def settings_text(settings: Configuration) -> str:
    """Mean over the trainings that got this far, and how many failed: "mean over 3 seeds MEAN ± ERROR; 1 of 4
    trainings failed"."""
    parts = []
    mean, stderr = settings.over_seeds
    if stderr is not None:
        parts.append(f"mean over {len(settings.points)} seeds {mean:.3f} ± {stderr:.3f}")
    if settings.num_failed:
        parts.append(f"{settings.num_failed} of {settings.num_trainings} trainings failed")
    others = len(settings.missing) - sum(record.status == "failed" for record in settings.missing)
    if others:
        parts.append(f"{others} of {settings.num_trainings} ended before this step, or passed over this cut")
    return "; ".join(parts) or f"{settings.num_trainings} trainings"


def decision_document(decision: Decision, summary: Summary) -> dict[str, Any]:
    """The decision as plain JSON data."""
    settings, proven = decision.settings, decision.proven
    return {
        "warning": warning(summary, decision.recommended.point) or None,
        "recommended": _standing(decision.recommended, summary),
        "best": _standing(decision.best, summary),
        "proven": None if proven is None else _standing(proven, summary),
        "within": decision.within,
        "limits": dict(decision.limits),
        **serve_document(summary),
        "asked_limits": dict(decision.asked),
        "confidence": decision.confidence,
        "choices": [
            {
                "within": one.margin,
                "measured": _standing(one.standing, summary),
                "proven": None if one.proven is None else _standing(one.proven, summary),
            }
            for one in decision.choices
        ],
        "settings": {
            "num_trainings": settings.num_trainings,
            "num_failed": settings.num_failed,
            "mean_over_seeds": settings.over_seeds[0],
            "stderr_over_seeds": settings.over_seeds[1],
            "adapters": [point.name for point in settings.points],
        },
        "not_proven": [_standing(one, summary) for one in decision.open],
        "examples_needed": decision.examples_needed,
        "num_examples": decision.num_examples,
        "num_compared": decision.num_compared,
        "better_without_file": None if decision.without_file is None else decision.without_file.name,
        "unproven": decision.unproven or None,
        "caveats": [*decision.caveats, *filter(None, [spent_text(summary.objectives.quality)])],
    }


def _standing(one: Standing, summary: Summary) -> dict[str, Any]:
    point = one.point
    return {
        "candidate": point.name,
        summary.objectives.quality: point.quality.value,
        summary.objectives.size: point.size,
        **{f"form_{name}": kind for name, kind in form_kinds(point, summary.objectives.serve_on).items()},
        "worse_by": one.shortfall,
        "at_most": one.bound,
    }


def _measured(one: Standing, summary: Summary) -> str:
    point, quality = one.point, summary.objectives.quality
    return f"{point.name}, {params_text(point)}, {quality} {figure_text(point.quality)} ({split_text(quality)})"


def _asked(decision: Decision, summary: Summary) -> list[str]:
    """That another margin than the sweep's was asked for, and what that names."""
    if decision.within == summary.within or summary.recommended is None:
        return []
    return [
        f"You asked for at most {decision.within:g} worse; with the sweep's own margin of {summary.within:g}, by which "
        f"its report goes, it is {summary.recommended.name}."
    ]


def limits_sentences(decision: Decision) -> list[str]:
    """What limits the sweep has, and which were asked for besides."""
    kept = [f"the sweep's limits: {limit_text(decision.limits)}"] if decision.limits else []
    kept += [f"those asked for: {limit_text(decision.asked)}"] if decision.asked else []
    return [f"It keeps to {', and to '.join(kept)}."] if kept else []


def rule_sentence(decision: Decision, summary: Summary) -> str:
    """By which rule the recommended adapter is that."""
    one, best, quality = decision.recommended, decision.best, summary.objectives.quality
    if decision.num_compared == 1:
        return f"It is the only adapter that {'was measured' if len(summary.points) == 1 else 'meets these limits'}."
    if one.point.name == best.point.name:
        return f"It measured best itself; nothing smaller measured at most {decision.within:g} worse."
    return (
        f"It is the smallest that measured at most {decision.within:g} worse than the best, {best.point.name} "
        f"({quality} {figure_text(best.point.quality)}, {params_text(best.point)}): "
        f"{one.shortfall:.4f} worse."
    )


def without_file(decision: Decision, summary: Summary) -> list[str]:
    """What measured better than the best that can be shipped."""
    one, quality = decision.without_file, summary.objectives.quality
    if one is None:
        return []
    return [
        f"{one.name} measured better ({quality} {figure_text(one.quality)}), but has no adapter file: the best is the "
        "best of those that have one."
    ]


def sureness(decision: Decision, one: Standing) -> str:
    """How much worse than the truly best an adapter may be, and whether it is proven within the margin."""
    proven = decision.proven
    if decision.unproven:
        return decision.unproven
    if one.bound is None:
        return "How much worse than the truly best it is cannot be said."
    bound = _bound_sentence(one, decision)
    if one.is_proven(decision.within):
        return f"{bound}: proven."
    if one.shortfall > decision.within:
        return f"{bound}."
    smallest = (
        "None is" if proven is None else f"The smallest that is: {proven.point.name} ({params_text(proven.point)})"
    )
    return f"{bound}: that it is within {decision.within:g} is measured, not proven. {smallest}."


def _bound_sentence(one: Standing, decision: Decision) -> str:
    return (
        f"With {percent(decision.confidence)} confidence, for all adapters at once, it is at most {one.bound:.4f} "
        "worse than the truly best of them"
    )


def _compared(decision: Decision, summary: Summary) -> list[str]:
    if decision.num_compared == 1:
        return []
    examples = examples_text(summary.objectives.quality, decision.num_examples)
    pairs = [f"Compared on the same {decision.num_examples:,} {examples}, pair by pair."] if decision.is_paired else []
    return [*pairs, *decision.caveats]


def _remedies(decision: Decision, summary: Summary) -> list[str]:
    one, needed = decision.recommended, decision.examples_needed
    if needed is not None:
        examples = examples_text(summary.objectives.quality, needed)
        return [
            f"About {needed:,} {examples} (now {decision.num_examples:,}) would prove it, if it stays as it measured."
        ]
    if one.bound is None or one.is_proven(decision.within):
        return []
    return ["It measured so near the limit that no affordable number of examples tells it from that."]


def _luck(decision: Decision, summary: Summary) -> str:
    """That the best of many is a little lucky; empty where a test figure shows no less."""
    one, quality, gain = decision.recommended, summary.objectives.quality, summary.objectives.gain
    test = summary.test_of(one.point)
    if test is None:
        is_chosen = len(summary.points) > 1
        return f"It was chosen on {split_text(quality)}: expect a little less on new data." if is_chosen else ""
    if gain(test.value) >= gain(one.point.quality.value):
        return f"On the test split, by which nothing was chosen, it has {quality} {figure_text(test)}."
    return (
        f"On the test split, by which nothing was chosen, it has {quality} {figure_text(test)}, less than where it was "
        "chosen, as is to be expected."
    )
