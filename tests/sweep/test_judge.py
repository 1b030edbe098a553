"""Who is judged by whom, and what a decision says."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.load import load_sweep
from prunedlora.pruning.target import Start
from prunedlora.results.record import Decision
from prunedlora.sweep import judge as judge_module
from prunedlora.sweep.judge import About, Judge
from prunedlora.trial.planned_sizes import planned_sizes


def about(*sizes: float, **changes: Any) -> About:
    given: Any = {"sizes": list(sizes), "at": [1.0] * len(sizes), "group": "data", "is_judged": True}
    return given | changes


def look(loss: float, step: int = 1, num_steps: int = 10, num: int = 4, **changes: Any) -> dict[str, Any]:
    """Of examples whose losses are 0.1 apart from one another, of one target each."""
    seen: Any = {
        "step": step, "share": step / num_steps, "loss": {"value": loss, "stderr": 0.1, "num_examples": num},
        "last_removal": None, "decision": None,
    }  # fmt: skip
    sums = [loss + 0.1 * (i - (num - 1) / 2) for i in range(num)]
    return {"look": seen | changes, "loss_sums": sums, "num_targets": [1] * num}


def judge_of(**known: tuple[About, float]) -> Judge:
    judge = Judge()
    for key, (what, loss) in known.items():
        judge.begin(key, what)
        assert judge.look(key, look(loss), True) is None
    return judge


BASELINES = {"a": (about(100.0, is_judged=False), 0.1), "b": (about(110.0, is_judged=False), 0.2)}


def test_a_trial_stops_that_is_left_behind_and_its_decision_can_be_recorded() -> None:
    judge = judge_of(**BASELINES)
    judge.begin("c", about(120.0))
    found = judge.look("c", look(1.0), False)
    assert found == {
        "stops": True,
        "beaten_by": ({"size": 120.0, "by": "a"},),
        "spared": None,
        "peers": {"a": 0.1, "b": 0.2},
    }
    decision = Decision.model_validate(found)
    assert decision.words == "beaten by a"


def test_baselines_and_trials_of_unknown_sizes_are_not_judged() -> None:
    judge = judge_of(**BASELINES)
    judge.begin("c", about(120.0, is_judged=False))
    judge.begin("d", about())
    judge.begin("e", about(0.0))
    for key in ("c", "d", "e", "never begun"):
        assert judge.look(key, look(9.0), False) is None


def test_a_trial_is_beaten_only_by_what_is_planned_no_larger() -> None:
    judge = judge_of(a=(about(151.0), 0.1), b=(about(150.0), 0.2))
    judge.begin("c", about(150.0))
    found = judge.look("c", look(1.0), False)
    assert found is not None
    assert found["beaten_by"] == ({"size": 150.0, "by": "b"},)
    # Of a candidate that has no size on this axis (a slot that no server has) nothing is said.
    judge.begin("d", about(150.0, float("inf")))
    found = judge.look("d", look(1.0), False)
    assert found is not None
    assert [each["size"] for each in found["beaten_by"]] == [150.0]


def test_trials_of_one_plan_are_equally_large_though_only_bounds_are_known() -> None:
    """The quickstart's: parameters are counted over all layers, so a rung comes out somewhere below its budget."""
    trial = load_sweep(Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml").trial
    planned = planned_sizes(trial, Start({(16, 768): 16, (16, 1920): 8}), 720)
    bounds = [each.bounds["adapter_params"] for each in planned]
    assert any(least < most for least, most in bounds)
    sizes = [each.size("adapter_params") for each in planned]
    for size, (least, most) in zip(sizes, bounds, strict=True):
        assert size == pytest.approx((least * most) ** 0.5)
        assert size == least or least < most
    judge, found = Judge(), {}
    for key, loss in {"a": 0.1, "b": 0.2, "c": 1.0, "d": 0.15}.items():
        judge.begin(key, about(*sizes, at=[each.share for each in planned]))
        found[key] = judge.look(key, look(loss), False)
    assert {key: each is not None and each["stops"] for key, each in found.items()} == {
        "a": False, "b": False, "c": True, "d": False
    }  # fmt: skip


def test_who_has_ended_before_any_size_is_no_peer_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = judge_of(**BASELINES, c=(about(120.0), 1.0), d=(about(50.0), 0.0), e=(about(50.0, group="x"), 0.0))
    judge.end("d", "stopped")
    compared = []
    whole = judge_module.verdict

    def told(runs: Any, *given: Any, **settings: Any) -> Any:
        compared.append(sorted(runs))
        return whole(runs, *given, **settings)

    monkeypatch.setattr(judge_module, "verdict", told)
    judge.decide("c", 0.1)
    assert compared == [["a", "b", "c"]]


def test_other_data_other_examples_and_another_distance_from_a_removal_are_not_compared() -> None:
    judge = judge_of(**BASELINES)
    for key, what, seen in (
        ("c", about(120.0, group="other data"), look(1.0)),
        ("d", about(120.0), look(1.0, num=5)),
        ("e", about(120.0), look(1.0, last_removal=0.1)),
    ):
        judge.begin(key, what)
        found = judge.look(key, seen, False)
        assert found is not None
        assert (found["stops"], found["peers"]) == (False, {})


def test_what_a_stopped_trial_had_ahead_beats_nobody_and_what_goes_on_does_again() -> None:
    judge = judge_of(a=(about(100.0), 0.1), b=(about(110.0), 0.2), c=(about(120.0), 1.0))
    assert judge.decide("c", 0.1)["stops"]  # type: ignore[index]
    for key, status in (("a", "stopped"), ("b", "failed")):
        judge.end(key, status)
    assert judge.decide("c", 0.1) == {"stops": False, "beaten_by": (), "spared": None, "peers": {}}
    judge.begin("a", about(100.0))
    judge.begin("b", about(110.0))
    assert judge.decide("c", 0.1)["stops"]  # type: ignore[index]
    judge.end("a", "completed")
    assert judge.decide("c", 0.1)["stops"]  # type: ignore[index]


def test_losses_over_targets_are_paired_by_what_each_example_adds_to_them() -> None:
    """Two examples, of 1 and 3 targets, 2 on average."""
    judge = Judge()

    def beaten_by(key: str, sums: list[float]) -> list[str]:
        judge.begin(key, about(100.0))
        found = judge.look(key, look(sum(sums) / 4, num=2) | {"loss_sums": sums, "num_targets": [1, 3]}, False)
        assert found is not None
        return [each["by"] for each in found["beaten_by"]]

    beaten_by("a", [1.2, 1.2])
    # Behind by 0.4, that is by -0.2 and 1 on the two: no more than the standard error of 0.6.
    assert beaten_by("c", [0.8, 3.2]) == []
    # By 0.15, 0.1 and 0.2 on the two: beyond the standard error of 0.05.
    beaten_by("b", [0.6, 2.8])
    assert beaten_by("c", [0.8, 3.2]) == ["b"]


def test_it_goes_to_the_board_in_one_piece() -> None:
    judge = pickle.loads(pickle.dumps(judge_of(**BASELINES)))
    judge.begin("c", about(120.0))
    assert judge.look("c", look(1.0), False)["stops"]


@pytest.mark.parametrize(("margin", "stops"), [(None, True), (0.5, True), (2.0, False)])
def test_the_margin_is_the_settings(margin: float | None, stops: bool) -> None:
    judge = Judge(margin)
    for key, loss in (("a", 0.1), ("b", 0.1), ("c", 1.0)):
        judge.begin(key, about(100.0))
        found = judge.look(key, look(loss), False)
    assert found is not None
    assert found["stops"] == stops
