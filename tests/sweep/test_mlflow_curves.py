"""Runs in MLflow, as its own client reads them."""

from collections.abc import Callable
from typing import Any

import pytest

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.curves import Curves
from prunedlora.sweep.mlflow_curves import MlflowSink, mlflow_uri
from tests.inventions import invented_record


@pytest.mark.needs("mlflow")
def test_an_interrupted_trial_is_one_run_with_every_step_once(
    make_sweep: Callable[..., SweepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = make_sweep()
    store = Store(config.storage)
    store.create_or_open(config.model_dump(mode="json"))
    store.write_config("a1", config.trial.model_dump(mode="json"))
    store.append_log("a1", [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)])
    uri = mlflow_uri(store)
    assert uri is not None
    Curves(store, MlflowSink(uri, config.name, store), lambda: [("a1", None)]).update()
    store.append_log("a1", [{"resumed_at_step": 2}, {"step": 3, "loss": 0.25}])
    records: list[TrialRecord | None] = [invented_record("a1", store.read_config("a1"))]
    sink = MlflowSink(uri, config.name, store)
    Curves(store, sink, lambda: [("a1", records[0])]).update()
    client: Any = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert run.info.status == "FINISHED"
    assert run.data.params["adapter.alpha"] == "8"
    assert sink.ended() == {"a1"}
