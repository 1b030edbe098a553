"""What is passed over: by differences on the same examples, and never the best."""

from prunedlora.tasks.outcomes import Outcomes
from prunedlora.trial.screening import Screened, beaten_by


def rival(name: str, num_params: int, *loss_sums: float) -> Screened:
    return Screened.of(name, num_params, Outcomes(list(loss_sums), [1] * len(loss_sums), {}))


def test_a_cut_is_passed_over_where_something_no_larger_is_clearly_better_on_the_same_examples() -> None:
    hard_and_easy = (5.0, 0.1, 3.0, 0.2)  # spread over examples says nothing of differences
    cut = rival("cut", 100, *hard_and_easy)
    better = tuple(loss - by for loss, by in zip(hard_and_easy, (0.02, 0.03, 0.02, 0.03), strict=True))
    assert beaten_by(cut, [cut, rival("smaller", 90, *better)]) == "smaller"
    assert beaten_by(cut, [cut, rival("as large", 100, *better)]) == "as large"
    assert beaten_by(cut, [cut, rival("larger", 101, *better)]) is None
    assert beaten_by(cut, [cut, rival("equal", 90, *hard_and_easy)]) is None
    doubtful = tuple(loss - by for loss, by in zip(hard_and_easy, (0.2, -0.1, 0.2, -0.1), strict=True))
    assert beaten_by(cut, [cut, rival("not clearly", 90, *doubtful)]) is None
    best = tuple(loss - 0.5 for loss in better)
    assert beaten_by(cut, [rival("smaller", 90, *better), rival("best", 80, *best)]) == "best"
    assert beaten_by(rival("one example", 9, 1.0), [rival("better", 9, 0.0)]) is None


def test_the_difference_is_one_of_losses_per_target() -> None:
    """Ten times the targets, ten times the weight: what is better on the many is better."""
    one = Screened.of("one", 9, Outcomes([10.0, 1.0, 10.0], [10, 1, 10], {}))
    other = Screened.of("other", 9, Outcomes([9.0, 1.1, 9.0], [10, 1, 10], {}))
    assert other.clearly_beats(one)
    assert not one.clearly_beats(other)
    assert Screened.of("first", 9, Outcomes([10.0, 1.0, 10.0], [10, 1, 10], {}), 2).outcomes.loss_sums == [10.0, 1.0]
