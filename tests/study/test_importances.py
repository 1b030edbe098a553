"""Importances point at the field that decides, and say why where there is nothing to point at."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json

from prunedlora.results.ask import Ask
from prunedlora.results.importances_document import Importances, read_importances, write_importances
from prunedlora.results.record import Figure
from prunedlora.results.store import Store
from prunedlora.study.importances import find_importances
from tests.inventions import invented_record, sweep_tree

OBJECTIVES: Any = {"accuracy": "maximize", "adapter_params": "minimize"}
RATE, RANK, DAMPING = "optimizer.learning_rate", "adapter.initial_rank", "pruning.damping"
SPACE = {
    RATE: distribution_to_json(FloatDistribution(1e-4, 1e-2, log=True)),
    RANK: distribution_to_json(IntDistribution(1, 16)),
    DAMPING: distribution_to_json(FloatDistribution(0.0, 1.0)),
}


def importances_of(store: Store) -> Importances:
    return find_importances(store.asks(), store.records(), OBJECTIVES)


def searched(folder: Path, num_trials: int, **fixed: Any) -> Store:
    """A store whose accuracy hangs on the learning rate alone and whose size on the rank; `fixed`: what does not vary.

    Damping is conditional: trials of an even number do not have it.
    """
    store = Store(str(folder))
    tree = sweep_tree(folder)
    store.create_or_open(tree)
    rng = np.random.default_rng(0)
    for number in range(num_trials):
        params: dict[str, Any] = {RATE: float(10 ** rng.uniform(-4, -2)), RANK: int(rng.integers(1, 17))}
        if number % 2:
            params[DAMPING] = float(rng.uniform())
        params |= fixed.get("params", {})
        distributions = {path: SPACE[path] for path in params}
        key = f"{number:04d}"
        store.write_ask(
            Ask(number=number, key=key, kind="search", params=params, distributions=distributions, system_attrs={})
        )
        record = invented_record(key, tree["trial"])
        accuracy = fixed.get("accuracy", 1.0 - abs(np.log10(params[RATE]) + 3.0))
        changes = {"figures": {"accuracy": Figure(value=float(accuracy), num_examples=100)}}
        last = record.candidates[-1].model_copy(update=changes | {"adapter_params": 10 * params[RANK]})
        store.write_record(record.model_copy(update={"candidates": (last,)}), driver_epoch=0)
    return store


def test_they_point_at_the_field_that_decides(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = searched(tmp_path / "store", 80)
    found = importances_of(store)
    assert (found.num_trials, found.num_best) == (80, 8)
    assert found.evaluator.startswith("PED-ANOVA of Optuna ")
    for name, path in (("accuracy", RATE), ("adapter_params", RANK)):
        shares = found.objectives[name].shares
        assert shares is not None
        assert shares.keys() == SPACE.keys()
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares[path] > 0.6
    assert "study created" not in capfd.readouterr().err
    assert importances_of(store) == found
    write_importances(store, found)
    assert read_importances(store) == found


def test_few_trials_are_compared_by_their_five_best(tmp_path: Path) -> None:
    assert importances_of(searched(tmp_path / "a", 12)).num_best == 5
    found = importances_of(searched(tmp_path / "b", 9))
    assert (found.num_trials, found.num_best) == (9, 0)
    assert found.objectives["accuracy"].reason == "9 completed search trials are too few: it takes 10"


def test_trials_that_failed_stopped_or_were_not_searched_do_not_count(tmp_path: Path) -> None:
    store = searched(tmp_path / "store", 12)
    tree = store.read_sweep()
    store.write_record(invented_record("0000", tree["trial"], "failed"), driver_epoch=0)
    store.write_record(invented_record("0001", tree["trial"], "stopped"), driver_epoch=0)
    baseline: dict[str, Any] = {"params": {}, "distributions": {}, "system_attrs": {}}
    store.write_ask(Ask(number=12, key="baseline", kind="baseline", **baseline))
    store.write_record(invented_record("baseline", tree["trial"]), driver_epoch=0)
    assert importances_of(store).num_trials == 10
    # Told of candidates the search learns from what the stopped one left.
    assert find_importances(store.asks(), store.records(), OBJECTIVES, "candidates").num_trials == 11


def test_an_objective_that_does_not_vary_has_a_reason(tmp_path: Path) -> None:
    found = importances_of(searched(tmp_path / "store", 12, accuracy=0.5))
    assert found.objectives["accuracy"].reason == "all 12 trials have the same accuracy"
    assert found.objectives["adapter_params"].shares is not None


def test_fields_of_one_value_are_left_out(tmp_path: Path) -> None:
    store = searched(tmp_path / "a", 20, params={RANK: 4, DAMPING: 0.5})
    shares = importances_of(store).objectives["accuracy"].shares
    assert shares == {RATE: 1.0}
    # Accuracies that differ although nothing was varied: seeds of a sampler that knows one point only.
    store = searched(tmp_path / "b", 12, params={RATE: 1e-3, RANK: 4, DAMPING: 0.5})
    for number, key in zip(itertools.count(), store.storage.names("trials"), strict=False):
        record = store.read_record(key)
        assert record is not None
        figures = {"accuracy": Figure(value=number / 100, num_examples=100)}
        last = record.candidates[-1].model_copy(update={"figures": figures})
        store.write_record(record.model_copy(update={"candidates": (last,)}), driver_epoch=0)
    reason = importances_of(store).objectives["accuracy"].reason
    assert reason == "every field has one value in all 12 trials"
