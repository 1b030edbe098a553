"""Stores of earlier sweeps in terms of this one's space, and those that tell it nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import trial_with
from prunedlora.results.ask import Ask
from prunedlora.results.record import RecordError
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.study.warm_reading import WarmStartError, read_sources
from prunedlora.sweep.warm_start_store import (
    NOTHING,
    keep_warm_start,
    replaced_lines,
    settle_warm_start,
    warm_start_lines,
)
from tests.inventions import invented_record

Make = Callable[..., SweepConfig]
RATE, RANK = "optimizer.learning_rate", "adapter.initial_rank"
ITS = {RATE: {"log_uniform": [1e-4, 1e-2]}, RANK: {"choice": [4, 8, 16]}}


def fill(store: Store, config: SweepConfig, trials: list[dict[str, Any]], status: str = "completed") -> str:
    store.create_or_open(config.model_dump(mode="json"))
    for number, values in enumerate(trials):
        tree = trial_with(config.trial, values).model_dump(mode="json")
        store.write_record(invented_record(f"{status}{number}", tree, status), driver_epoch=0)
    return store.uri


def write_ask(store: Store) -> None:
    store.write_ask(Ask(number=0, key="k", kind="search", params={}, distributions={}, system_attrs={}))


TRIALS = [{RATE: 2e-4, RANK: 4}, {RATE: 2e-3, RANK: 8}, {RATE: 5e-3, RANK: 16}]


@pytest.fixture
def earlier(make_sweep: Make, tmp_path: Path) -> str:
    return fill(Store(str(tmp_path / "earlier")), make_sweep(space=ITS), TRIALS)


def test_an_older_space_is_read_in_terms_of_the_new_one(earlier: str, make_sweep: Make) -> None:
    """A range that changed leaves out what is outside; an entry that was added has the earlier base's value."""
    space = {RATE: {"log_uniform": [1e-3, 1e-1]}, RANK: {"int": [2, 32]}, "training.num_steps": {"int": [10, 40]}}
    memory = read_sources(make_sweep(space=space), [earlier], "own")
    assert {each.key: each.params for each in memory.settings} == {
        "completed1": {RATE: 2e-3, RANK: 8, "training.num_steps": 20},
        "completed2": {RATE: 5e-3, RANK: 16, "training.num_steps": 20},
    }
    (source,) = memory.sources
    assert (source.num_completed, source.num_taken) == (3, 2)
    assert source.left_out == {f"{RATE} outside of this space": 1}
    assert warm_start_lines(memory, "tpe")[0] == (
        f"Warm start: 2 of 3 completed trials of {earlier} (sweep small); left out: 1 with {RATE} outside of this space"
    )
    assert warm_start_lines(memory, "nsga2")[-1].endswith("nsga2 makes no more of them; tpe and gp learn from all")


def test_what_is_no_longer_searched_must_be_as_in_the_new_base(earlier: str, make_sweep: Make) -> None:
    memory = read_sources(make_sweep(space={RATE: ITS[RATE]}), [earlier], "own")  # whose base has rank 8
    assert [each.key for each in memory.settings] == ["completed1"]
    assert memory.sources[0].left_out == {f"another {RANK} than this sweep's 8": 2}


def test_another_task_model_or_length_is_no_obstacle_and_conditions_hold(make_sweep: Make, tmp_path: Path) -> None:
    space = ITS | {"pruning.target_sparsity": {"uniform": [0.6, 0.8], "when": {RANK: [16]}}}
    config = make_sweep(space=space)
    tree = config.trial.model_dump(mode="json")
    tree["model"]["name"], tree["training"]["num_steps"] = "other/model", 999
    other = make_sweep(space=ITS, trial=tree)
    uri = fill(Store(str(tmp_path / "other")), other, TRIALS)
    memory = read_sources(config, [uri], "own")
    assert [each.params for each in memory.settings if each.key == "completed0"] == [TRIALS[0]]
    assert memory.sources[0].left_out == {"pruning.target_sparsity outside of this space": 1}  # where it applies


def test_stores_that_tell_nothing_are_named_before_anything_begins(
    earlier: str, make_sweep: Make, tmp_path: Path
) -> None:
    config = make_sweep(space=ITS)

    def said(uris: list[str], config: SweepConfig = config, own: str = "own") -> str:
        with pytest.raises((WarmStartError, StoreError, RecordError)) as error:
            read_sources(config, uris, own)
        assert str(error.value).startswith("--warm-start")
        return str(error.value)

    assert "is no store: it has no sweep.yaml" in said([str(tmp_path / "none")])
    broken = Store(fill(Store(str(tmp_path / "broken")), config, TRIALS[:1]))
    broken.storage.write_text("trials/completed0/record.json", "{}")
    assert "broken/trials/completed0/record.json: not a valid TrialRecord" in said([broken.uri])
    assert "storage 'no-such://there' cannot be used" in said(["no-such://there"])
    with pytest.raises(StoreError, match="--warm-start: storage 'no-such://there' cannot be used"):
        settle_warm_start(config, Store(str(tmp_path / "own")), ["no-such://there"])
    assert "it is this sweep's own store" in said([earlier], own=earlier)
    assert "is given twice" in said([earlier, earlier])
    failed = fill(Store(str(tmp_path / "failed")), config, TRIALS, "failed")
    assert said([failed]) == f"--warm-start {failed}: none of its trials has completed"
    loss = make_sweep(space=ITS, objectives={"loss": "minimize", "max_rank": "minimize"})
    assert "its objectives are accuracy against adapter_params, this sweep's loss against max_rank" in said(
        [earlier], loss
    )
    beside = make_sweep(space={RATE: {"log_uniform": [0.1, 0.2]}})
    assert f"this sweep has none of its 3 completed trials: 3 with {RATE} outside of this space; widen" in said(
        [earlier], beside
    )
    one_rank = [{RATE: 2e-4}, {RATE: 2e-3}]
    rates = fill(Store(str(tmp_path / "rates")), make_sweep(space={RATE: ITS[RATE]}), one_rank)
    ranks = make_sweep(space={RANK: ITS[RANK]}, trial=config.trial.model_dump(mode="json"))
    assert f"another {RATE} than this sweep's 0.001" in said([rates], ranks)
    steps = make_sweep(space={"training.num_steps": {"int": [10, 40]}})
    same = fill(Store(str(tmp_path / "same")), make_sweep(space={RATE: ITS[RATE]}), [{}, {"seed": 0}])
    assert f"no entry in common: it searched {RATE}, this sweep training.num_steps, and its trials do not differ" in (
        said([same], steps)
    )
    alone = make_sweep(space={}, num_trials=0, baselines=[{RANK: 4}])
    assert "nothing is searched (num_trials is 0)" in said([earlier], alone)


def test_what_a_search_knows_at_its_beginning_stays(earlier: str, make_sweep: Make, tmp_path: Path) -> None:
    config, store = make_sweep(space=ITS), Store(str(tmp_path / "new"))
    store.create_or_open(config.model_dump(mode="json"))
    memory = settle_warm_start(config, store, [earlier])
    keep_warm_start(store, memory)
    assert not store.binding.is_bound()
    assert settle_warm_start(config, store, []) == memory  # it was killed before its first ask
    with pytest.raises(StoreError, match="another driver began"):
        keep_warm_start(store, NOTHING)
    assert replaced_lines(store, memory) == []
    write_ask(store)
    store.write_config("k", {})  # a trial was queued
    Store(earlier).delete_folder("trials")
    assert settle_warm_start(config, store, []) == settle_warm_start(config, store, [earlier]) == memory
    with pytest.raises(StoreError, match=r"was begun with --warm-start .*earlier, not .*else: what a search knows"):
        settle_warm_start(config, store, [str(tmp_path / "else")])


def test_until_something_is_asked_other_stores_take_the_place_of_those_given(
    earlier: str, make_sweep: Make, tmp_path: Path
) -> None:
    config, store = make_sweep(space=ITS), Store(str(tmp_path / "new"))
    keep_warm_start(store, settle_warm_start(config, store, [earlier]))
    other = fill(Store(str(tmp_path / "other")), make_sweep(), TRIALS)
    memory = settle_warm_start(config, store, [other])
    assert [source.uri for source in memory.sources] == [Store(other).uri]
    (line,) = replaced_lines(store, memory)
    assert line.endswith(f"other instead of {Store(earlier).uri}, since nothing was asked yet")
    keep_warm_start(store, memory)
    assert settle_warm_start(config, store, []) == memory
    with pytest.raises(WarmStartError, match="no use for telling 'area'"):
        settle_warm_start(make_sweep(space=ITS, telling="area"), store, [])
    write_ask(store)
    with pytest.raises(StoreError, match="was begun with --warm-start"):
        settle_warm_start(config, store, [earlier])


def test_a_search_that_began_without_goes_on_without(earlier: str, make_sweep: Make, tmp_path: Path) -> None:
    from tests.study.test_asker import drive

    config, store = make_sweep(space=ITS, num_trials=2), Store(str(tmp_path / "cold"))
    memory = settle_warm_start(config, store, [earlier])
    assert drive(config, store)
    with pytest.raises(StoreError, match="was begun without --warm-start: what a search knows at its beginning stays"):
        settle_warm_start(config, store, [earlier])
    with pytest.raises(StoreError, match="another driver began its search meanwhile"):
        keep_warm_start(store, memory)


def test_an_area_has_no_use_for_trials_of_two_objectives(earlier: str, make_sweep: Make, tmp_path: Path) -> None:
    with pytest.raises(WarmStartError, match="no use for telling 'area'"):
        settle_warm_start(make_sweep(telling="area"), Store(str(tmp_path / "new")), [earlier])
