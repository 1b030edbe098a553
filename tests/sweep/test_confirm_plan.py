"""Plans of confirmations: which seeds are fresh, that a request is one plan for ever, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.analysis.confirmation import confirming_keys
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import Ask, ConfirmationPlan
from prunedlora.results.record import Cut, Figure
from prunedlora.results.store import Store
from prunedlora.sweep.confirm_lines import choice_line
from prunedlora.sweep.confirm_plan import WHAT_HANGS, ConfirmError, Request, about_the_same, fresh_trial, make_plan
from tests.inventions import invented_record, sweep_tree

Put = Callable[..., str]
PLAIN_LORA = {"adapter.method": "lora", "pruning": None}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.create_or_open(parse_sweep(sweep_tree(tmp_path / "store"), "test").model_dump(mode="json"))
    return store


@pytest.fixture
def put(store: Store) -> Put:
    """put(accuracy, params, **fields of its settings by path): a trial with a record; returns its key."""

    def put(accuracy: float, params: int, status: str = "completed", candidate: Any = None, **fields: Any) -> str:
        trial = trial_with(TrialConfig.model_validate(store.read_sweep()["trial"]), fields)
        key, config = trial_key(trial), trial.model_dump(mode="json")
        queue(store, key, config)
        record = invented_record(key, config, status)
        figure = Figure(value=accuracy, stderr=0.01, num_examples=100)
        changes = {
            "figures": {"accuracy": figure, "loss": figure},
            "adapter_params": params,
            "adapter_path": "adapters/20",
        }
        made = [one.model_copy(update=changes | (candidate or {})) for one in record.candidates]
        store.write_record(record.model_copy(update={"candidates": tuple(made)}), driver_epoch=1)
        return key

    return put


def queue(store: Store, key: str, config: dict[str, Any]) -> None:
    store.write_config(key, config)
    number = len(store.asks())
    part: dict[str, Any] = {"params": {}, "distributions": {}, "system_attrs": {}}
    store.write_ask(Ask(number=number, key=key, kind="baseline", **part))


def plan(store: Store, *names: str, **request: Any) -> ConfirmationPlan:
    given = {"names": names} if names else {}
    found, is_new = make_plan(summarize(store), Request(**given, **request), "me@here", "2026-01-01T00:00:00+00:00")
    if is_new:
        store.write_confirmation(found)
    return found


def test_seeds_are_fresh_for_all_settings_and_paired(store: Store, put: Put) -> None:
    """None that any of them was trained with, or is in flight with; others' seeds are no matter."""
    small, large = put(0.90, 10, **{"adapter.initial_rank": 4}), put(0.905, 100)
    put(0.8, 100, seed=1)
    put(0.8, 300, **{"seed": 2, "optimizer.learning_rate": 2e-3})  # other settings
    queued = fresh_trial(store, small, 3)
    queue(store, trial_key(queued), queued.model_dump(mode="json"))
    found = plan(store, num_seeds=3)
    assert found.names == ("recommended", "best")
    assert found.candidates == (f"{small}@20", f"{large}@20")
    assert found.against == f"{large}@20"
    assert (found.seeds, found.looks, found.within, found.confidence) == ((2, 4, 5), (3,), 0.01, 0.95)
    for setting in found.settings:
        trials = [fresh_trial(store, setting.key, seed) for seed in found.seeds]
        assert setting.fresh == tuple(trial_key(trial) for trial in trials)
        assert [trial.seed for trial in trials] == [2, 4, 5]
    assert len(confirming_keys([found])) == 6


def test_a_request_is_one_plan_for_ever(store: Store, put: Put) -> None:
    """What is told by then must not decide what is looked at; another request has other seeds."""
    put(0.90, 10, **{"adapter.initial_rank": 4})
    put(0.905, 100)
    first = plan(store)
    assert plan(store) == first
    assert plan(store, "recommended", "best", within=0.01) == first
    second = plan(store, num_seeds=2, most_seeds=4)
    assert (second.number, second.seeds, second.looks) == (1, (4, 5, 6, 7), (2, 4))
    assert [found.number for found in store.confirmations()] == [0, 1]
    assert plan(store) == first


def test_the_order_of_names_is_no_matter(store: Store, put: Put) -> None:
    """Nor by which training of the same settings they are named."""
    one, other = put(0.90, 10, **{"adapter.initial_rank": 4}), put(0.905, 100)
    first = plan(store, one, other)
    assert plan(store, other, one) == first
    again = put(0.89, 10, **{"adapter.initial_rank": 4, "seed": 9})
    assert plan(store, other, again) == first
    further = plan(store, other, one, confidence=0.9)
    assert about_the_same(summarize(store), [f"{other}@20", f"{one}@20"]) == [first, further]
    assert about_the_same(summarize(store), [f"{one}@20"]) == []


def test_the_best_itself_is_set_beside_what_would_be_used_instead(store: Store, put: Put) -> None:
    """The best plain LoRA of other settings, however it is by size; without one the next smaller of the front."""

    def line(*names: str) -> str:
        request = Request(names=names or WHAT_HANGS, num_seeds=2)
        return choice_line(summarize(store), request, plan(store, *names, num_seeds=2))

    best = put(0.95, 50)
    assert plan(store, num_seeds=2).candidates == (f"{best}@20",)
    assert line() == "It is compared with nothing: name another beside it, a KEY of prunedlora report"
    put(0.95, 50, seed=7)
    put(0.5, 10, **{"adapter.initial_rank": 2})
    near = put(0.8, 40, **{"adapter.initial_rank": 4})
    found = plan(store, num_seeds=2)
    assert (found.candidates, found.against) == ((f"{best}@20", f"{near}@20"), f"{best}@20")
    assert line().endswith(
        f"beside it {near}@20, the next smaller adapter of the front, since there is no plain LoRA of other settings"
    )
    assert line(near).endswith(f"name another beside it, best say ({best}@20)")
    plain = put(0.7, 90, **PLAIN_LORA)
    put(0.6, 20, **PLAIN_LORA, **{"adapter.initial_rank": 4})
    found = plan(store, num_seeds=2)
    assert found.candidates == (f"{best}@20", f"{plain}@20")
    assert line().endswith(f"beside it {plain}@20, the best plain LoRA of other settings")
    assert plan(store, "recommended", num_seeds=2).candidates == (f"{best}@20",)


def test_fresh_trainings_change_no_name(store: Store, put: Put) -> None:
    """However well they measured: else a confirmation would never come to its end."""
    put(0.90, 10, **{"adapter.initial_rank": 4})
    put(0.905, 100)
    first = plan(store, num_seeds=2)
    put(0.99, 10, **{"adapter.initial_rank": 4, "seed": first.seeds[0]})
    assert set(first.settings[0].fresh) & {record.key for record in store.records()}
    assert plan(store, num_seeds=2) == first
    with pytest.raises(ConfirmError, match=r"is of a fresh training itself: name the adapter that it confirms"):
        plan(store, first.settings[0].fresh[0])


def test_trainings_that_differ_in_their_seed_alone_are_one_setting(store: Store, put: Put) -> None:
    one, other = put(0.90, 10), put(0.91, 10, seed=1)
    found = plan(store, one, other)
    assert (found.candidates, found.against, found.seeds) == ((f"{one}@20",), None, (2, 3, 4))
    cut = {"cut": Cut(basis="svd", allocation="uniform", unit="mean_rank", size=2)}
    third = put(0.91, 10, candidate=cut, seed=5)
    with pytest.raises(ConfirmError, match=rf"{third}@20r2 and trial {one} differ in their seed alone"):
        plan(store, one, f"{third}@20r2")


def test_candidates_of_one_training_share_their_trainings(store: Store, put: Put) -> None:
    key = put(0.9, 100)
    record = store.read_record(key)
    assert record is not None
    half = record.candidates[0].model_copy(update={"step": 10, "progress": 0.5, "adapter_params": 200})
    store.write_record(record.model_copy(update={"candidates": (half, *record.candidates)}), driver_epoch=1)
    found = plan(store, f"{key}@10", key)
    assert found.candidates == (f"{key}@10", f"{key}@20")
    assert len(found.settings) == 1
    # The one that measured best of those that are named; of equals the last by name.
    assert found.against in found.candidates


def test_looks() -> None:
    assert Request(num_seeds=3).looks() == (3,)
    assert Request(num_seeds=3, most_seeds=6).looks() == (3, 6)
    assert Request(num_seeds=3, most_seeds=9, num_looks=3).looks() == (3, 6, 9)
    assert Request(num_seeds=3, most_seeds=6, num_looks=4).looks() == (3, 4, 5, 6)
    assert Request(num_seeds=1).looks() == (1,)


def test_numbers_that_do_not_fit_are_refused(store: Store, put: Put) -> None:
    put(0.90, 10, **{"adapter.initial_rank": 4})
    put(0.905, 100)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"num_seeds": 0}, r"--seeds 0: at least 1"),
        ({"num_seeds": 1}, r"--seeds 1: at least 2 where adapters are compared"),
        ({"most_seeds": 2}, r"--most-seeds 2 is below --seeds 3"),
        ({"most_seeds": 5, "num_looks": 4}, r"--looks 4: from 3 to 5 seeds there can be 2 to 3, at one number"),
        ({"num_looks": 2}, r"--looks 2: from 3 to 3 seeds there can be one"),
        ({"most_seeds": 6, "num_looks": 1}, r"--looks 1: from 3 to 6 seeds there can be 2 to 4"),
        ({"within": -0.1}, r"--within -0.1: at least 0"),
        ({"confidence": 1.0}, r"--confidence 1: between 0.5 and 1"),
        ({"names": ("best",), "most_seeds": 6}, r"--most-seeds 6: one adapter is compared with nothing"),
    ]
    for request, message in wrong:
        with pytest.raises(ConfirmError, match=message):
            make_plan(summarize(store), Request(**request), "me", "now")


def test_what_fresh_seeds_say_nothing_of_is_refused(store: Store, put: Put) -> None:
    failed = put(0.9, 100, status="failed", **{"adapter.initial_rank": 4})
    with pytest.raises(ValueError, match=rf"trial {failed} \(failed\) has no candidates"):
        plan(store, failed)
    with pytest.raises(ConfirmError, match=r"has no front. All 1 trials failed"):
        plan(store, "front")
    began = put(0.9, 100, candidate={"step": 0})
    with pytest.raises(ConfirmError, match=rf"{began}@0 is the adapter that it began with: nothing of it was trained"):
        plan(store, began)
