"""What a run's candidates are told as: each on its own, or the area under all."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json
from optuna.trial import TrialState

from prunedlora.results.ask import Ask
from prunedlora.results.record import Cut, Failure, Figure, TrialRecord
from prunedlora.study.rebuild import outcome
from prunedlora.study.telling import HEADROOM, Said, Teller, area, gain
from tests.decoder_sizes import WIDTHS, candidate_fields
from tests.inventions import invented_record, sweep_tree

OBJECTIVES: dict[str, Any] = {"accuracy": "maximize", "adapter_params": "minimize"}
RATE = "optimizer.learning_rate"


def run(*candidates: tuple[float, int], status: str = "completed", **changes: Any) -> TrialRecord:
    """A ladder whose rungs have these accuracies and sizes; `changes`: of each candidate."""
    record = invented_record("a", sweep_tree(Path("unused"))["trial"])
    (made,) = record.candidates
    rungs = [
        made.model_copy(
            update={
                "step": 5 + n,
                "rung": n,
                "figures": {"accuracy": Figure(value=accuracy, num_examples=10)},
                "adapter_params": params,
            }
            | {name: values[n] for name, values in changes.items()}
        )
        for n, (accuracy, params) in enumerate(candidates)
    ]
    return record.model_copy(update={"candidates": tuple(rungs), "status": status})


def ask(**params: Any) -> Ask:
    distributions = {
        name: IntDistribution(1, 64) if isinstance(value, int) else FloatDistribution(0.0, 1.0)
        for name, value in params.items()
    }
    told = {name: distribution_to_json(distribution) for name, distribution in distributions.items()}
    return Ask(number=3, key="a", kind="search", params=params, distributions=told, system_attrs={})


def values_of(said: Sequence[Said]) -> list[tuple[float, ...]]:
    return [each.values for each in said]


def cut(rank: float, unit: Any = "mean_rank") -> Cut:
    return Cut(basis="svd", allocation="uniform", unit=unit, size=rank)


def test_every_rung_is_told_and_what_the_run_itself_beats_is_not() -> None:
    record = run((0.9, 800), (0.7, 400), (0.8, 200), (0.8, 200), (0.5, 100))
    told = Teller(OBJECTIVES, "candidates").told(ask(**{RATE: 0.1}), record)
    assert told.state is TrialState.COMPLETE
    assert told.own is not None
    assert told.own.values == (0.5, 100)
    assert values_of(told.others) == [(0.9, 800), (0.8, 200)]
    assert Teller(OBJECTIVES, "last").told(ask(**{RATE: 0.1}), record).others == ()


def test_a_half_trained_milestone_is_told_where_its_run_came_to_nothing_better() -> None:
    record = run((0.9, 800), (0.6, 400), (0.8, 200), rung=[None] * 3, progress=[0.3, 0.6, 1.0])
    told = Teller(OBJECTIVES, "candidates").told(ask(**{"pruning.target_rank": 2}), record)
    assert values_of(told.others) == [(0.9, 800)]
    assert [each.params for each in told.others] == [{"pruning.target_rank": 2}]


def test_a_stopped_run_is_told_by_its_candidates_and_without_any_as_bad() -> None:
    teller = Teller(OBJECTIVES, "candidates")
    record = run((0.9, 800), (0.7, 400), status="stopped")
    told = teller.told(ask(**{RATE: 0.1}), record)
    assert (told.state, told.own and told.own.values) == (TrialState.COMPLETE, (0.7, 400))
    assert outcome(record, OBJECTIVES) == (TrialState.PRUNED, None)
    assert teller.told(ask(**{RATE: 0.1}), run(status="stopped")).state is TrialState.PRUNED


@pytest.mark.parametrize("telling", ["candidates", "area"])
@pytest.mark.parametrize(("fault", "state"), [("trial", TrialState.PRUNED), ("node", TrialState.FAIL)])
def test_of_a_failed_run_no_candidate_is_told(telling: Any, fault: Any, state: TrialState) -> None:
    failure = Failure(type="E", message="", fault=fault, traceback="")
    record = run((0.9, 800)).model_copy(update={"status": "failed", "failure": failure})
    told = Teller(OBJECTIVES, telling, sizes=(1, 1000)).told(ask(**{RATE: 0.1}), record)
    assert (told.state, told.own, told.others) == (state, None, ())


def test_a_cut_stands_for_the_size_that_it_was_cut_to() -> None:
    record = run((0.9, 800), (0.7, 400), (0.6, 100), rung=[None] * 3, cut=[None, cut(4), cut(1)])
    teller = Teller(OBJECTIVES, "candidates")
    of_events = teller.told(ask(**{"pruning.target_rank": 8, RATE: 0.1}), record)
    assert of_events.own is not None
    assert of_events.own.values == (0.9, 800)
    assert [each.params["pruning.target_rank"] for each in of_events.others] == [4, 1]
    assert all(each.params[RATE] == 0.1 for each in of_events.others)
    # Of another size even what the run itself beats tells something.
    better = run((0.9, 800), (0.95, 400), rung=[None] * 2, cut=[None, cut(4)])
    assert len(teller.told(ask(**{"pruning.target_rank": 8}), better).others) == 1
    # It is pruned: the rank it began with says nothing of its size.
    assert teller.told(ask(**{"adapter.initial_rank": 8}), record).others[0].params == {"adapter.initial_rank": 8}
    plain = record.model_copy(update={"config": {**record.config, "pruning": None}})
    told = teller.told(ask(**{"adapter.initial_rank": 8}), plain).others
    assert [each.params["adapter.initial_rank"] for each in told] == [4, 1]


def test_a_cut_to_what_the_space_has_not_keeps_the_runs_parameters() -> None:
    record = run((0.9, 800), (0.7, 400), (0.6, 300), rung=[None] * 3, cut=[None, cut(0.5), cut(0.25, "kept")])
    told = Teller(OBJECTIVES, "candidates").told(ask(**{"pruning.target_rank": 8}), record)
    assert {each.params["pruning.target_rank"] for each in told.others} == {8}
    told = Teller(OBJECTIVES, "candidates").told(ask(**{"pruning.target_sparsity": 0.5}), record)
    assert [each.params["pruning.target_sparsity"] for each in told.others] == [0.5, 0.75]


def test_limits_are_told_as_how_far_a_size_is_beyond() -> None:
    record = run((0.9, 800), (0.7, 400), max_rank=[200, 8], served_slot=[None, 8])
    told = Teller(OBJECTIVES, "candidates", {"adapter_params": 400, "served_slot": 16}).told(ask(**{RATE: 0.1}), record)
    assert told.own is not None
    assert told.own.beyond == {"adapter_params": 0.0, "served_slot": math.log(0.5)}
    assert told.others[0].beyond == {"adapter_params": math.log(2), "served_slot": math.log(200 / 16)}


def test_a_candidate_without_a_place_on_the_axis_is_left_out() -> None:
    record = run((0.9, 800), (0.7, 400), served_slot=[None, 8])
    told = Teller({"accuracy": "maximize", "served_slot": "minimize"}, "candidates").told(ask(**{RATE: 0.1}), record)
    assert (told.own and told.own.values, told.others) == ((0.7, 8), ())


def test_the_area_is_the_hypervolume_of_a_runs_own_candidates() -> None:
    rng = np.random.default_rng(0)
    low, high = 50.0, 5000.0
    for _ in range(20):
        points = [(float(size), float(got)) for size, got in zip(rng.uniform(50, 5000, 6), rng.random(6), strict=True)]
        costs = np.array([[math.log(size), -got] for size, got in points])
        volume = moocore.hypervolume(costs, ref=[math.log(HEADROOM * high), 0.0])
        assert area(points, (low, high)) == pytest.approx(volume / math.log(HEADROOM * high / low), abs=1e-12)
    assert area([], (low, high)) == 0.0
    assert area([(0.0, 1.0)], (low, high)) == 1.0
    assert 0 < area([(high, 1.0)], (low, high)) < area([(high / 2, 1.0)], (low, high))


def test_a_gain_rises_from_0_to_1() -> None:
    assert [gain(-0.3, "maximize"), gain(0.25, "maximize")] == [0.0, 0.25]
    assert [gain(0.0, "minimize"), gain(math.log(4), "minimize")] == [1.0, pytest.approx(0.25)]


def test_a_run_is_told_by_the_area_of_what_keeps_the_limits() -> None:
    teller = Teller(OBJECTIVES, "area", {"adapter_params": 500}, sizes=(100, 1000))
    assert teller.directions == ["maximize"]
    record = run((0.9, 800), (0.7, 400), (0.5, 100))
    told = teller.told(ask(**{RATE: 0.1}), record)
    assert told.own is not None
    assert told.own.values == (pytest.approx(area([(400, 0.7), (100, 0.5)], (100, 1000))),)
    alone = teller.told(ask(**{RATE: 0.1}), run((0.9, 800)))
    assert (alone.state, alone.own and alone.own.values) == (TrialState.COMPLETE, (0.0,))


def test_sizes_are_told_as_servers_need_them_and_what_one_refuses_is_left_out() -> None:
    """The last rung, of two ranks, is padded by SGLang; the first, above vLLM's slots, is served by none."""
    rungs = [candidate_fields(ranks) for ranks in ({"*.q_proj": 600}, {"*.q_proj": 8}, {"*.q_proj": 2, "0.v_proj": 1})]
    changes = {name: [fields[name] for fields in rungs] for name in rungs[0]}
    record = run((0.9, 0), (0.8, 0), (0.7, 0), **changes).model_copy(update={"layer_widths": WIDTHS})
    padded, rank_1 = 2 * 3 * (16 + 12 + 12), 3 * (16 + 12 + 12)
    limits = {"adapter_params": 4 * rank_1, "served_slot": 16}
    teller = Teller(OBJECTIVES, "candidates", limits, serve_on=["sglang", "vllm"])
    told = teller.told(ask(**{RATE: 0.1}), record)
    assert told.own is not None
    assert (told.own.values, told.own.beyond["adapter_params"]) == ((0.7, padded), math.log(2 / 4))
    assert values_of(told.others) == [(0.8, 8 * rank_1)]
    assert told.others[0].beyond == {"adapter_params": math.log(2), "served_slot": math.log(8 / 16)}
    last = Teller(OBJECTIVES, "last", limits, serve_on=["sglang"]).told(ask(**{RATE: 0.1}), record)
    assert last.own == told.own
    assert len(Teller(OBJECTIVES, "candidates", limits).told(ask(**{RATE: 0.1}), record).others) == 2
    refused = record.model_copy(update={"candidates": record.candidates[:1]})
    assert outcome(refused, OBJECTIVES, ["vllm"]) == (TrialState.FAIL, None)
    assert outcome(refused, OBJECTIVES)[0] is TrialState.COMPLETE
    wide = Teller(OBJECTIVES, "last", {"served_slot": 16}, serve_on=["peft"]).told(ask(**{RATE: 0.1}), refused)
    assert wide.own is not None
    assert wide.own.beyond == {"served_slot": math.log(600 / 16)}
