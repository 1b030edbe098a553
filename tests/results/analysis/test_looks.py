"""What fresh trainings tell at planned looks: by hand, and how often it is false where the truth is known."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import norm

from prunedlora.results.analysis.confidence import Floats, draw_means
from prunedlora.results.analysis.looks import Statement, seeds_needed, state

LOOKS = (3, 6)
WITHIN = 0.01


@dataclass(frozen=True)
class Fresh:
    """Two settings of known accuracy, each trained with fresh seeds, with the noise of seeds and of examples."""

    shortfall: float
    """True, of the first beside the second."""
    deviation: float
    """Of the true accuracy over seeds."""
    num_examples: int = 1000
    best: float = 0.9

    @property
    def is_too_bad(self) -> bool:
        return self.shortfall > WITHIN

    def draw(self, num_seeds: int, num_draws: int, rng: np.random.Generator) -> tuple[list[Floats], list[Floats]]:
        """`gains` and `errors` of both, as `state` takes them. Trainings share three fifths of what is hard."""
        shared = np.sqrt(0.6) * rng.standard_normal(self.num_examples)
        centres = np.repeat([self.best - self.shortfall, self.best], num_seeds)
        true = np.clip(centres + self.deviation * rng.standard_normal(2 * num_seeds), 0.0, 1.0)
        own = np.sqrt(0.4) * rng.standard_normal((2 * num_seeds, self.num_examples))
        scores = (shared + own < norm.ppf(true)[:, None]).astype(np.float64)
        errors = draw_means(scores, None, rng, num_draws) - scores.mean(1)
        return np.split(scores.mean(1), 2), np.split(errors, 2, axis=1)


def is_false(statement: Statement, truth: Fresh) -> bool:
    return statement.verdict == ("confirmed" if truth.is_too_bad else "refuted")


def told(gains: list[list[float]], looks: tuple[int, ...] = LOOKS, **changes: float) -> list[Statement]:
    """All beside the last, without noise of examples."""
    rng = np.random.default_rng(0)
    pairs = [(c, len(gains) - 1) for c in range(len(gains) - 1)]
    errors = [np.zeros((1000, len(own))) for own in gains]
    given = {"within": WITHIN, "confidence": 0.95} | changes
    return state([np.array(own) for own in gains], errors, pairs, looks, rng=rng, **given)


def verdicts(*gains: list[float], looks: tuple[int, ...] = LOOKS) -> list[tuple[str, int]]:
    return [(one.verdict, one.num_seeds) for one in told(list(gains), looks)]


STEADY = [0.900, 0.901, 0.899]


def test_the_first_look_that_tells_ends_it() -> None:
    assert verdicts(STEADY, STEADY) == [("confirmed", 3)]
    assert verdicts([0.800, 0.801, 0.799], STEADY) == [("refuted", 3)]
    restless = [0.93, 0.87, 0.90]
    assert verdicts(restless, STEADY) == [("open", 6)]
    assert verdicts(restless * 2, STEADY * 2) == [("not told", 6)]
    assert verdicts(restless, STEADY, looks=(3,)) == [("not told", 3)]


def test_seeds_that_would_tell() -> None:
    """By Student's quantiles from tables: 3 trainings gave ±0.1 about 0.05 below the margin."""
    one = Statement("not told", 3, -0.06, -0.16, 0.04)
    # t: 2.920/√3 is 1.686 at 3; 2.353/√4 = 1.177 at 4, 2.132/√5 = 0.953, 2.015/√6 = 0.823: half of 1.686 is 0.843.
    assert seeds_needed(one, WITHIN, 0.95) == 6
    assert seeds_needed(one, 0.06, 0.95) is None
    assert seeds_needed(Statement("not told", 1, -0.06, -np.inf, np.inf), WITHIN, 0.95) is None


def test_what_was_told_is_not_asked_again() -> None:
    """A steady one is told at the first look, whatever the second would give of it."""
    assert verdicts(STEADY, [0.93, 0.87, 0.90], STEADY) == [("confirmed", 3), ("open", 6)]
    later = [*STEADY, 0.5, 0.5, 0.5]
    assert verdicts(later, [0.93, 0.87, 0.90], STEADY) == [("confirmed", 3), ("open", 6)]


def test_trainings_that_are_missing_leave_it_open() -> None:
    assert verdicts([], []) == [("open", 3)]
    assert verdicts(STEADY, STEADY[:2]) == [("open", 3)]


def test_a_training_that_failed_counts_against_it() -> None:
    assert verdicts([0.9, float("nan"), 0.9], STEADY) == [("failed", 3)]
    assert verdicts([float("nan")], []) == [("failed", 3)]
    # Of what it stands beside: nothing is left to compare with, and no further look would change that.
    assert verdicts(STEADY, [0.9, float("nan"), 0.9]) == [("not told", 3)]


def test_looks_share_the_error() -> None:
    """More looks make each of them wider, by Student's t as far as it is known; one training tells nothing."""
    widths = [-told([STEADY, STEADY], looks=tuple(range(3, 3 + count)))[0].low for count in (1, 2, 4)]
    assert widths == sorted(widths)
    assert widths[1] > 1.1 * widths[0]
    assert verdicts([0.9], [0.9], looks=(1,)) == [("not told", 1)]


def test_several_are_told_together() -> None:
    alone = told([STEADY, STEADY])[0].low
    assert told([STEADY] * 6)[0].low < alone


@pytest.mark.parametrize("shortfall", [0.0, WITHIN + 1e-4])
def test_statements_are_seldom_false(shortfall: float) -> None:
    """As often as 1 in 10 may be; the benchmark `coverage` has more of each, and other confidences."""
    rng, truth, count = np.random.default_rng(1), Fresh(shortfall, 0.02, num_examples=200), 40
    false = 0
    for _ in range(count):
        gains, errors = truth.draw(LOOKS[-1], 300, rng)
        [one] = state(gains, errors, [(0, 1)], LOOKS, WITHIN, 0.9, rng, resolution=1 / truth.num_examples)
        false += is_false(one, truth)
    assert false <= 0.2 * count
