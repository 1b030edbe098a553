"""Curves for MLflow: an experiment per sweep, a run per trial, at MLFLOW_TRACKING_URI or in a local store."""

import logging
import os
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunedlora.results.recorded_settings import shown
from prunedlora.results.store import Store
from prunedlora.sweep.curves import CurvesError, Points, Trial

FILE = "mlflow.db"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's own."""
KEY_TAG, STORE_TAG = "prunedlora.key", "prunedlora.store"
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100
"""Most that MLflow takes in one call."""
LONGEST_PARAM = 500


def mlflow_uri(store: Store) -> str | None:
    """Where the runs go; None: nothing says where."""
    return os.environ.get(URI_VARIABLE) or (f"sqlite:///{store.uri}/{FILE}" if store.storage.is_local else None)


def shown_uri(store: Store) -> str:
    """The same for people, without a user's password."""
    return re.sub(r"//[^@/]*@", "//", mlflow_uri(store) or "nowhere")


def check_mlflow(store: Store) -> None:
    """Raises CurvesError when the package is missing, nothing says where runs are to go, or no server answers there."""
    if find_spec("mlflow") is None:
        raise CurvesError("loggers: mlflow takes the package mlflow: pip install mlflow")
    uri = mlflow_uri(store)
    if uri is None:
        raise CurvesError(f"loggers: mlflow has no place in the storage {store.uri}: set {URI_VARIABLE}")
    if os.environ.get(URI_VARIABLE):
        try:
            _client(uri).search_experiments(max_results=1)
        except Exception as error:  # of MLflow, SQLAlchemy or HTTP
            raise CurvesError(
                f"loggers: {URI_VARIABLE} {shown_uri(store)} cannot be reached: {type(error).__name__}"
            ) from error


class MlflowSink:
    def __init__(self, uri: str, sweep: str, store: Store) -> None:
        self._uri = uri
        self._sweep = sweep
        self._store = store
        self._client: Any = None
        self._experiment = ""

    def ended(self) -> set[str]:
        """Connects first: it is asked once, before all else."""
        self._client = _client(self._uri)
        found = self._client.get_experiment_by_name(self._sweep)
        if found is None:
            own = not os.environ.get(URI_VARIABLE)
            artifacts = (Path(self._store.uri) / "mlflow-artifacts").as_uri() if own else None
            self._experiment = self._client.create_experiment(self._sweep, artifact_location=artifacts)
        else:
            self._experiment = found.experiment_id
        return {run.data.tags[KEY_TAG] for run in self._runs() if run.info.status != "RUNNING"}

    def begin(self, trial: Trial) -> "MlflowCurve":
        for run in self._runs(f" AND tags.`{KEY_TAG}` = '{trial.key}'"):
            self._client.delete_run(run.info.run_id)
        tags = {KEY_TAG: trial.key, STORE_TAG: self._store.uri}
        run = self._client.create_run(self._experiment, tags=tags, run_name=trial.name)
        return MlflowCurve(self._client, run.info.run_id, trial)

    def _runs(self, further: str = "") -> list[Any]:
        """Those of this store."""
        ours = f"tags.`{STORE_TAG}` = '{self._store.uri}'{further}"
        runs, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], ours, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs


class MlflowCurve:
    def __init__(self, client: Any, run: str, trial: Trial) -> None:
        from mlflow.entities import Param

        self._client, self._run = client, run
        params = [Param(path, shown(value)[:LONGEST_PARAM]) for path, value in trial.settings.items()]
        for i in range(0, len(params), PARAMS_AT_ONCE):
            client.log_batch(run, params=params[i : i + PARAMS_AT_ONCE])

    def write(self, points: Points) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(re.sub(r"[^\w./: -]", "_", name), value, now, step) for name, step, value in points]
        for i in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(self._run, metrics=metrics[i : i + METRICS_AT_ONCE])

    def end(self, status: str) -> None:
        self._client.set_tag(self._run, "prunedlora.status", status)
        self._client.set_terminated(self._run, {"completed": "FINISHED", "stopped": "KILLED"}.get(status, "FAILED"))


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    for name in ("alembic", "mlflow"):  # they tell of every table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient(tracking_uri=uri)
