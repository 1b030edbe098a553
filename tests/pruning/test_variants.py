"""The laws of pruning are tried on every pair of settings that is allowed, and in the gate on every combination."""

import pytest

from prunedlora.registry import names
from tests.pairwise import pairs
from tests.pruning.variants import CHOSEN, ROWS, VARIANTS


def test_the_choice_has_every_pair():
    assert len(VARIANTS) == len(ROWS)  # their names tell all apart
    chosen = [row for name, row in zip(VARIANTS, ROWS, strict=True) if name in CHOSEN]
    assert {pair for row in chosen for pair in pairs(row)} == {pair for row in ROWS for pair in pairs(row)}
    assert len(chosen) < 50


@pytest.mark.parametrize("kind", ["criterion", "curvature", "allocation", "schedule"])
def test_whatever_is_registered_is_tried(kind):
    assert {variant[kind] for variant in VARIANTS.values()} >= set(names(kind))


@pytest.mark.parametrize(
    ("criterion", "num"),
    [
        # strength · (A and B with and without cap, both without) · curvature
        ("gradient", 2 * 5 * 2),
        # without recovery, and with it strength · side · curvature
        ("magnitude", 1 + 3 * 2),
        ("activation_obs", 2),
        (None, 2 * 2),  # basis · moments
    ],
)
def test_all_that_is_allowed_is_there(criterion, num):
    found = [variant for variant in VARIANTS.values() if variant["criterion"] == criterion]
    assert len(found) == num * len(names("allocation")) * 3 * len(names("schedule"))
