"""What the recommended adapter is compared with: the one that it began with; else the yardstick, which is what a
reader would use without it, a plain LoRA; the best; and the base model, which it must be better than."""

from dataclasses import dataclass

from prunedlora.results.analysis.budget import smallest_within
from prunedlora.results.analysis.original import original_name, works_no_better
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.figure_text import figure_text
from prunedlora.results.recorded_settings import method

PLAIN = ("lora", "rslora")
"""Methods that train an adapter at its rank and change nothing of it."""


@dataclass(frozen=True)
class Yardstick:
    point: Point
    is_plain: bool
    """False: the sweep has no plain LoRA, and this is the best complete adapter."""
    is_as_good: bool
    """Whether it measured at most the sweep's margin worse than the best."""

    @property
    def what(self) -> str:
        """The middle of a sentence."""
        if not self.is_plain:
            return "the best complete adapter"
        return "the smallest plain LoRA that measured as good" if self.is_as_good else "the best plain LoRA"


def is_complete(point: Point) -> bool:
    """Whether it is what a training from scratch came to, or a rung of one: no half-trained milestone, no cut."""
    one = point.candidate
    return one.cut is None and not one.is_half_trained and original_name(point.record) is None


def yardstick(summary: Summary) -> Yardstick | None:
    """The smallest plain LoRA that measured at most the sweep's margin worse than the best of all; where none did, the
    best plain LoRA; where there is none, the best complete adapter. Half-trained milestones, cuts and
    adapters that were there before are none. None where the sweep has none of these."""
    gain = summary.objectives.gain
    whole = [point for point in summary.points if is_complete(point) and point.size > 0]
    if summary.best is None or not whole:
        return None
    plain = [point for point in whole if method(point.record) in PLAIN]
    good = smallest_within(plain, summary.objectives, gain(summary.best.quality.value), summary.within)
    best = min(plain or whole, key=lambda p: (-gain(p.quality.value), p.size, p.among_equals))
    return Yardstick(good or best, is_plain=bool(plain), is_as_good=good is not None)


def comparisons(summary: Summary) -> list[str]:
    """Sentences on how much smaller the recommended adapter is than the one that its training began with, where there
    was one, else than the yardstick; and than the best."""
    point, best = summary.recommended, summary.best
    if point is None or best is None:
        return []
    original = summary.originals.get(point.key)
    lines: list[str] = []
    if original is not None and original.name == point.name:
        return [_nothing_smaller(summary, original)]
    found = yardstick(summary) if original is None else None
    if original is not None:
        lines.append(_beside_original(summary, point, original))
    elif found is not None:
        lines += _beside_yardstick(summary, point, found)
    known = {one.name for one in (original, None if found is None else found.point) if one is not None}
    if best.name == point.name and point.name not in known:
        lines.append("It is itself the best.")
    elif best.name not in {*known, point.name}:
        lines.append(f"{_sized(best, point)} the best ({_value(summary, best)}).")
    return lines


def _beside_yardstick(summary: Summary, point: Point, found: Yardstick) -> list[str]:
    other = found.point
    lines = []
    if not found.is_plain:
        lines.append("No plain LoRA was trained here.")
    elif not found.is_as_good:
        other_plain = method(point.record) in PLAIN and other.name != point.name
        which = ", trained to its end and uncut," if other_plain else " here"
        lines.append(f"No plain LoRA{which} measured within {summary.within:g} of the best.")
    if other.name == point.name:
        return [*lines, f"It is itself {found.what}."]
    label = "" if other.record.label is None else f"{other.record.label}: "
    told = f"{label}{other.candidate.adapter_params:,} parameters, {_value(summary, other)}"
    return [*lines, f"{_sized(other, point)} {found.what} ({told})."]


def _value(summary: Summary, point: Point) -> str:
    return f"{summary.objectives.quality} {figure_text(point.quality)}"


def _sized(other: Point, point: Point) -> str:
    """How large the point is beside the other, as the beginning of a sentence."""
    return "Empty, beside" if point.size == 0 else _smaller(other.size / point.size)


def _smaller(times: float) -> str:
    if times >= 1.05:
        return f"{times:.3g}× smaller than"
    return "About as large as" if times > 1 / 1.05 else f"{1 / times:.3g}× larger than"


def warning(summary: Summary, point: Point) -> str:
    """That a recommended point, or the original that it was made of, does not work on these data, in which case no size
    of it says anything; empty where it does, or the base model was not measured."""
    quality, base = summary.objectives.quality, summary.base_quality
    if base is None:
        return ""
    original = summary.originals.get(point.key)
    if original is not None and works_no_better(original.quality, base, summary.objectives):
        return (
            f"WARNING: the adapter that it began with ({original_name(original.record)}) is not clearly better here "
            f"than the untrained base model: {quality} {figure_text(original.quality)} against {figure_text(base)}. "
            "Are these the order of its classes (data.labels), its prompt or chat template, its base model, and data "
            "of its task? Until then no size says anything."
        )
    if not works_no_better(point.quality, base, summary.objectives):
        return ""
    return (
        f"WARNING: {point.name} is not clearly better than the untrained base model: {quality} "
        f"{figure_text(point.quality)} against {figure_text(base)}. Was it trained for long enough, at a learning rate "
        "that works, on data of this task, and are the examples enough to tell? Until then no size says anything."
    )


def _nothing_smaller(summary: Summary, original: Point) -> str:
    return (
        f"It is the adapter that it began with, {original_name(original.record)}, as it came: nothing smaller is at "
        f"most {summary.within:g} worse than the best{_unless_itself(summary, original)}."
    )


def _unless_itself(summary: Summary, point: Point) -> str:
    """Which adapter is the best, as what follows its name."""
    best = summary.best
    if best is None or best.name == point.name:
        return ", which it is itself"
    return f" ({best.name}, {summary.objectives.quality} {figure_text(best.quality)})"


def _beside_original(summary: Summary, recommended: Point, original: Point) -> str:
    beside, quality = summary.beside[recommended.name], summary.objectives.quality
    test, before = summary.test_of(recommended), summary.test_of(original)
    luck = "Nobody chose the original on these examples, but this one was chosen"
    if test is None:
        luck += ": expect a little less of it."
    elif before is None:
        luck += ", and the original was not measured on the test split."
    else:
        luck = (
            f"On the test split, by which nothing was chosen: {figure_text(test)}, the original {figure_text(before)}."
        )
    times = "Empty, beside" if beside.times_smaller is None else _smaller(beside.times_smaller)
    is_best = summary.best is not None and summary.best.name == original.name and summary.better_without_file is None
    best = " None measured better." if is_best else ""
    step = recommended.candidate.step
    trained = f" It was trained on for {step:,} steps, which the original was not." if step else ""
    return (
        f"{times} the adapter that it began with ({original_name(original.record)}, {quality} "
        f"{figure_text(original.quality)}), {beside.difference_text(quality)}.{best}{trained} {luck}"
    )
