"""What the report says of doubt: how likely the front is, what seeds did, and how sure the recommendation."""

from dataclasses import dataclass

from prunedlora.results.analysis.attainment import Attainment, attainment
from prunedlora.results.analysis.harness_quality import examples_text
from prunedlora.results.analysis.likely_front import LikelyFront, likely_front
from prunedlora.results.analysis.recommendation import Constraints, Recommendation, recommend_with_confidence
from prunedlora.results.analysis.summary import Summary

CONFIDENCE = 0.95
"""Of the intervals, and with which the report says how much worse than the best the recommended adapter may be."""
MOST_JUDGED = 500
"""Candidates; with more, likelihoods of the front would take longer than all of the page."""


@dataclass(frozen=True)
class Doubt:
    likely: LikelyFront | None
    """None for no candidates, or more than MOST_JUDGED."""
    bands: Attainment | None
    """None where no configuration was trained with two seeds."""
    found: Recommendation | None
    """What can be said at CONFIDENCE; None when no candidate has an adapter file, or nothing can be said."""

    @property
    def seeds_are_known(self) -> bool:
        """Whether noise between trainings is in the bounds."""
        return self.found is not None and self.found.seed_deviation is not None


def doubt_of(summary: Summary) -> Doubt:
    """Reads the outcomes of candidates, example by example, from the store. Raises RecordError for a broken file."""
    # Sweeps of older versions could have a margin that is no difference of shares: anything is within it.
    is_margin = summary.objectives.quality == "loss" or summary.within < 1
    return Doubt(
        likely=likely_front(summary) if 0 < len(summary.points) <= MOST_JUDGED else None,
        bands=attainment(summary),
        found=recommend_with_confidence(
            summary, within=summary.within, confidence=CONFIDENCE, constraints=Constraints()
        )
        if is_margin
        else None,
    )


def sure_text(summary: Summary, found: Recommendation | None) -> str:
    """What can be said of the recommended adapter with confidence; empty where it is the best itself."""
    recommended = summary.recommended
    if found is None or recommended is None:
        return ""
    if recommended.name in {point.name for point in found.best_configuration.points}:
        return ""
    bound = found.bound_of(recommended)
    if bound is None:
        return ""
    how = "example by example" if found.paired else "partly by standard errors alone"
    seeds = "" if found.seed_deviation is None else ", noise between seeds included"
    examples = examples_text(summary.objectives.quality, found.num_examples)
    what = (
        f"Compared {how} over {found.num_examples:,} {examples}{seeds}, it is at most {max(bound, 0.0):.3f} worse than "
        f"the best with {100 * CONFIDENCE:g}% confidence"
    )
    if bound <= summary.within:
        return f"{what}."
    proven = "the best itself" if found.point.name == found.best.name else found.point.name
    return f"{what}: that it is within {summary.within:g} is not proven. The smallest for which it is: {proven}."
