"""What the recommended adapter is confirmed beside where it is the best itself: what the decision hangs on then."""

from dataclasses import dataclass

from prunedlora.results.analysis.configurations import identity
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.trainings import is_untrained
from prunedlora.results.analysis.yardstick import PLAIN, is_complete
from prunedlora.results.recorded_settings import FULL, method


@dataclass(frozen=True)
class Second:
    point: Point
    why: str
    """The end of a sentence."""


def second(summary: Summary) -> Second | None:
    """What a reader would use instead of the recommended adapter, of other settings: the best plain LoRA that was
    trained to its end, the smallest of equals; where there is none, the next smaller of the front. None where the
    recommended one is not also the best, there is no such other, or none is recommended.

    It depends on the sweep's own trainings alone, so that what is confirmed by then does not change it.
    """
    one, best = summary.recommended, summary.best
    if one is None or best is None or identity(one.record) != identity(best.record) or _named(one) != _named(best):
        return None
    others = [point for point in summary.points if _can_be(point) and identity(point.record) != identity(one.record)]
    plain = [point for point in others if is_complete(point) and method(point.record) in PLAIN]
    if plain:
        gain = summary.objectives.gain
        found = min(plain, key=lambda point: (-gain(point.quality.value), point.size, point.among_equals))
        return Second(found, "the best plain LoRA of other settings")
    on_front = {point.name for point in summary.shippable_front}
    smaller = [point for point in others if point.name in on_front and point.size < one.size]
    if not smaller:
        return None
    found = max(smaller, key=lambda point: (point.size, point.name))
    return Second(found, "the next smaller adapter of the front, since there is no plain LoRA of other settings")


def _named(point: Point) -> str:
    return point.candidate.name


def _can_be(point: Point) -> bool:
    """Whether fresh seeds tell of it."""
    record = point.record
    return (
        point.size > 0
        and point.step > 0
        and record.status != "failed"
        and not is_untrained(record)
        and method(record) != FULL
        and "seed" in record.config
    )
