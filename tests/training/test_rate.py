import pytest

from prunedlora.training.rate import Decay, rate_factor


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_rises_then_falls_and_never_stands_still_at_zero(decay: Decay, warmup: float) -> None:
    factors = [rate_factor(step, 40, warmup, decay) for step in range(40)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_warm_up_reaches_the_peak_at_its_end() -> None:
    assert [rate_factor(step, 10, 0.4, "constant") for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_linear_decay_equals_the_formula() -> None:
    assert [rate_factor(step, 4, 0.0, "linear") for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_cosine_is_half_way_in_the_middle() -> None:
    assert rate_factor(5, 10, 0.0, "cosine") == pytest.approx(0.5)
