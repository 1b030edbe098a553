"""Stated confidence is kept over simulated sweeps; the full table is `jobs/benchmark.py coverage`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from prunedlora.benchmarks.command import app
from prunedlora.benchmarks.product.coverage import LEVELS, SCENARIOS, Scenario, front_calibration, tally

NUM = 80


def least(level: float) -> float:
    """Three standard errors of a share below it."""
    return level - 3 * np.sqrt(level * (1 - level) / NUM)


@pytest.mark.parametrize("name", ["ties", "nearly perfect, few examples", "2 seeds", "3 seeds and some of one"])
def test_confidence_is_kept(name):
    result = tally(SCENARIOS[name], num_sweeps=NUM, num_draws=200, seed=0)
    for level in LEVELS:
        shares = result.shares(level)
        assert shares["bounds_hold"] >= least(level), (level, shares)
        assert shares["advice_holds"] >= least(level), (level, shares)
    if name == "ties":
        assert result.shares(0.8)["says_smaller"] > 0.3  # it does say something


def test_more_seeds_let_it_say_more():
    def said(num_seeds):
        scenario = Scenario((0.9, 0.9), (num_seeds,) * 2, 0.02, within=0.03)
        return tally(scenario, num_sweeps=40, num_draws=200, seed=0).says_smaller[0.9]

    assert said(8) > said(2) + 4


def test_probabilities_of_being_on_the_front_come_true_where_candidates_differ():
    classes = front_calibration(0.04, num_candidates=30, num_examples=300, num_sweeps=60, num_draws=200, seed=0)
    assert sum(one["num_candidates"] for one in classes) == 60 * 30
    for one in classes:
        noise = 3 * np.sqrt(max(one["said"] * (1 - one["said"]), 0.01) / one["num_candidates"])
        assert abs(one["said"] - one["so"]) < 0.06 + noise, one


def test_the_last_line_is_one_json_object():
    result = CliRunner().invoke(app, ["coverage", "--num-sweeps", "2", "--num-draws", "100"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.splitlines()[-1])
    assert document["scenarios"].keys() == SCENARIOS.keys()
    assert document["num_sweeps"] == 2
