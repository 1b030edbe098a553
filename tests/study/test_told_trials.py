"""In which order runs end is no part of what is told of them."""

import itertools
from typing import Any

from optuna.trial import TrialState

from prunedlora.results.ask import Ask
from prunedlora.study.telling import Teller
from prunedlora.study.told_trials import ToldTrials
from tests.study.test_telling import OBJECTIVES, RATE, ask, run


def asked(number: int) -> Ask:
    return ask(**{RATE: number / 10}).model_copy(update={"number": number})


def held(trials: ToldTrials) -> list[Any]:
    return [(trial.params, trial.state, trial.values) for trial in trials]


def test_trials_stand_in_the_order_of_their_asks_however_they_end() -> None:
    asks = [asked(number) for number in range(4)]
    records = {number: run((0.9 - number / 10, 800), (0.5, 400 + number)) for number in range(3)}
    at_once = ToldTrials(Teller(OBJECTIVES, "candidates"))
    at_once.follow(asks, records)
    whole = held(at_once)
    assert [params[RATE] for params, _, _ in whole] == [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3]
    assert whole[-1][1] is TrialState.RUNNING
    for order in itertools.permutations(records):
        trials = ToldTrials(Teller(OBJECTIVES, "candidates"))
        for num in range(len(order) + 1):
            trials.follow(asks, {number: records[number] for number in order[:num]})
        assert held(trials) == whole
    assert at_once.num_learnt == 3
    assert sorted(at_once.reached())[0] == (400.0, 0.5)


def test_a_run_that_is_told_anew_stands_where_it_stood() -> None:
    asks = [asked(number) for number in range(3)]
    trials = ToldTrials(Teller(OBJECTIVES, "candidates"))
    trials.follow(asks, {0: run((0.9, 800), (0.5, 400), status="stopped"), 1: run((0.8, 800))})
    gone_on = run((0.9, 800), (0.5, 400), (0.4, 200))
    trials.follow(asks, {0: gone_on, 1: run((0.8, 800))})
    assert [values for _, _, values in held(trials)] == [[0.4, 200], [0.9, 800], [0.5, 400], [0.8, 800], None]
    others = [asked(5)]
    trials.follow(others, {})
    assert held(trials) == [({RATE: 0.5}, TrialState.RUNNING, None)]
