import math

import numpy as np
import pytest

from prunedlora.study.aiming import best_aimed, front_of, growth

FRONT = [(100.0, 0.5), (200.0, 0.6), (1600.0, 0.9)]


def test_a_front_rises_in_both() -> None:
    assert front_of([(200, 0.6), (300, 0.6), (100, 0.5), (1600, 0.9), (100, 0.4), (250, 0.2)]) == FRONT
    assert front_of([]) == []


def test_growth_is_largest_in_the_middle_of_the_widest_gap() -> None:
    sizes = np.geomspace(100, 1600, 201).tolist()
    grown = [growth([size], FRONT) for size in sizes]
    assert sizes[int(np.argmax(grown))] == pytest.approx(math.sqrt(200 * 1600), rel=0.01)
    assert growth([math.sqrt(200 * 1600)], FRONT) == pytest.approx(0.25 * 0.3 * math.log(8))
    for size, _ in FRONT:
        assert growth([size], FRONT) == pytest.approx(0.0)


def test_nothing_is_expected_outside_of_the_front() -> None:
    assert growth([10.0, 5000.0, math.inf], FRONT) == 0.0
    assert growth([10.0], []) == 0.0


def test_sizes_add_up_and_equal_ones_do_not() -> None:
    one, other = growth([140.0], FRONT), growth([500.0], FRONT)
    assert growth([140.0, 500.0], FRONT) == pytest.approx(one + other)
    assert growth([500.0, 500.0], FRONT) == pytest.approx(other)
    assert growth([300.0, 800.0], FRONT) > max(growth([300.0], FRONT), growth([800.0], FRONT))


def test_the_first_of_equals_is_taken() -> None:
    assert best_aimed([[140.0], [500.0], [500.0], []], FRONT) == 1
    assert best_aimed([[1.0], [2.0]], FRONT) == 0
