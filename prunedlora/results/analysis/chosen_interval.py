"""What the chosen adapter is worth, with an interval that knows that it was chosen."""

from dataclasses import dataclass

from prunedlora.results.analysis.confidence import interval_of
from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import Figure


@dataclass(frozen=True)
class ChosenInterval:
    figure: Figure
    split: str
    """That it was measured on: "test", or what the choice was made on (`split_text`)."""
    ends: tuple[float, float] | None
    """Of the interval; None where no probability can be given."""
    num_choices: int
    """Candidates for all of which it holds at once, since the adapter was chosen among them; 1 on the test split, by
    which nothing was chosen."""


def chosen_interval(summary: Summary, point: Point, confidence: float) -> ChosenInterval:
    """Of the quality of a point that was chosen for it: on the test split where it was measured there, else on what the
    choice was made on, for all candidates at once."""
    quality = summary.objectives.quality
    recommended, exported = summary.recommended, summary.exported
    if exported is not None and recommended is not None and recommended.name == point.name:
        test = exported.test.get(quality)
        if test is not None:
            return ChosenInterval(test, "test", interval_of(quality, test, confidence), 1)
    count = len(summary.points)
    return ChosenInterval(
        point.quality, split_text(quality), interval_of(quality, point.quality, confidence, count), count
    )
