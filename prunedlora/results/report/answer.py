"""What the page opens with: the adapter, and beside it what a reader would use without it."""

import shlex
from collections import Counter
from dataclasses import dataclass

from prunedlora.results.analysis.confidence import interval_of
from prunedlora.results.analysis.configurations import identity
from prunedlora.results.analysis.decision import CONFIDENCE, Decision
from prunedlora.results.analysis.find import BEST, RECOMMENDED
from prunedlora.results.analysis.original import original_name
from prunedlora.results.analysis.pareto import Objectives, Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.analysis.yardstick import yardstick
from prunedlora.results.figure_text import counted, figure_text, file_text, percent
from prunedlora.results.record import Figure
from prunedlora.results.recorded_settings import method
from prunedlora.results.rung_text import made_text


@dataclass(frozen=True)
class ComparedRow:
    """A row of the table that compares."""

    what: str
    point: Point | None
    """None: no adapter."""
    validation: str
    test: str
    """Empty: not looked at there."""

    @property
    def sizes(self) -> tuple[str, str]:
        """Parameters, and file."""
        if self.point is None:
            return "", ""
        return f"{self.point.candidate.adapter_params:,}", file_text(self.point.candidate)


def rows_beside(summary: Summary) -> list[ComparedRow]:
    """The recommended adapter, what its training began with, plain LoRA (or the yardstick in its place), the best, full
    fine-tuning and the base model, as far as they are there; each once."""
    if summary.recommended is None:
        return []
    found, original = yardstick(summary), summary.originals.get(summary.recommended.key)
    named = {"recommended": summary.recommended}
    if original is not None:
        named["what it began with"] = original
    if found is not None:
        named[found.what.removeprefix("the ")] = found.point
    if summary.best is not None:
        named["best measured"] = summary.best
    rows: dict[str, ComparedRow] = {}
    for what, point in named.items():
        if point.name in rows:
            rows[point.name] = _row(f"{rows[point.name].what}, {what}", point, summary)
        else:
            rows[point.name] = _row(what, point, summary)
    levels = {"full fine-tuning": summary.full, "base model, untrained": summary.base_quality}
    return [*rows.values(), *(ComparedRow(what, None, figure_text(one), "") for what, one in levels.items() if one)]


def how_made(point: Point) -> str:
    """By which method, and where on its training: "prunedlora, rung 4 of a ladder of 4"."""
    began = point.candidate.is_original and original_name(point.record) is None  # before the first step of a fresh one
    where = "" if began else made_text(point.record, point.candidate)
    if point.candidate.is_half_trained:
        where = f"a half-trained milestone, at {point.candidate.progress:.0%} of its steps"
    return ", ".join(filter(None, [method(point.record), where or f"trained for {point.step:,} steps"]))


def with_interval(figure: Figure, quality: str, num_choices: int = 1) -> str:
    """A figure with its interval where there is one: over other draws of examples that chose nothing, or, where it
    looked best of `num_choices`, for the luck of that too."""
    ends = interval_of(quality, figure, CONFIDENCE, num_choices)
    luck = f" for the best of {num_choices:,}" if num_choices > 1 else ""
    shown = f"{figure.value:.3f}"
    return shown if ends is None else f"{shown} ({percent(CONFIDENCE)} interval{luck} {ends[0]:.3f}–{ends[1]:.3f})"


def looked_at_text(summary: Summary) -> str:
    """How many adapters the test split was looked at for, as it is on record."""
    point, quality = summary.recommended, summary.objectives.quality
    names = {name for name, figures in summary.tested.items() if quality in figures}
    fresh = sum(len(result.test) for found in summary.confirmations for result in found.results)
    if point is None:
        return ""
    test = summary.test_of(point)
    if test is None:
        others = f" (of {len(names)} others it was)" if names else ""
        return (
            f"It was not measured on the test split yet{others}: prunedlora test {shlex.quote(summary.store.uri)} "
            f"{_called(summary, point, RECOMMENDED)} does."
        )
    num = len(names | {point.name})
    others = "this adapter only" if num == 1 else f"{num} adapters of the sweep"
    again = f", and for {fresh} that were trained again to confirm" if fresh else ""
    return (
        f"The test split ({test.num_examples:,} examples) was looked at for {others}{again}; nothing was chosen by it."
    )


def confirm_command(decision: Decision, summary: Summary) -> str:
    """The line that trains again what the decision hangs on; empty where nothing was trained, and where a confirmation
    of the same, with something beside it, has come to its end."""
    recommended, best = decision.recommended.point, decision.best.point
    if is_untrained(recommended.record):
        return ""
    # Of a best that was not trained nothing can be confirmed; where it is the recommended, confirm knows what to set
    # beside it.
    both = not is_untrained(best.record)
    names = {recommended.name, best.name} if both else {recommended.name}
    told = [found.plan for found in summary.confirmations if found.is_over and found.plan.against is not None]
    if any(names <= set(plan.candidates) for plan in told):
        return ""
    words = [_called(summary, recommended, RECOMMENDED), *([_called(summary, best, BEST)] if both else [])]
    return f"prunedlora confirm {shlex.quote(summary.store.uri)} {' '.join(dict.fromkeys(words))} --seeds 3"


def _called(summary: Summary, point: Point, word: str) -> str:
    """What a command takes for it: the word stands for another adapter where other servers than the sweep's were asked
    for."""
    own = Objectives.of_sweep(summary.sweep).serve_on
    return word if summary.objectives.serve_on == own else point.name


def seeds_text(summary: Summary) -> str:
    """How many settings were trained with more than one seed, and what was trained again to confirm."""
    records = {point.key: point.record for point in summary.points}.values()
    trainings = Counter(map(identity, records))
    repeated = sum(count > 1 for count in trainings.values())
    lines = [f"{repeated} of {len(trainings)} settings were trained with several seeds."]
    again = len(summary.records) - len(summary.chosen_from)
    if not repeated:
        lines = [f"One training each{', when they were chosen' if again else ''}."]
    if again:
        lines.append(f"{counted(again, 'further training')} with fresh seeds confirm what was chosen (above).")
    return " ".join(lines)


def _row(what: str, point: Point, summary: Summary) -> ComparedRow:
    test = summary.test_of(point)
    quality = summary.objectives.quality
    return ComparedRow(what, point, figure_text(point.quality), "" if test is None else with_interval(test, quality))
