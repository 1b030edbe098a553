"""optuna-dashboard on the mirror of a sweep that runs: what its pages ask it for, without a server or a browser."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.study.mirror import Mirror
from tests.inventions import invented_record, next_ask


def get(app: Any, path: str) -> Any:
    """The JSON that the dashboard answers."""
    status: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}
    body = b"".join(
        app(environ | {"SERVER_NAME": "x", "wsgi.url_scheme": "http"}, lambda text, *_: status.append(text))
    )
    assert status == ["200 OK"], body
    return json.loads(body)


@pytest.mark.needs("dashboard")
def test_it_lists_trials_front_and_parameters_of_a_sweep_that_runs(
    make_sweep: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    import optuna_dashboard

    baselines = [{"adapter.method": "lora", "pruning": None, "label": "plain LoRA"}]
    config = make_sweep(num_trials=12, baselines=baselines)
    store = Store(config.storage)
    store.create_or_open(config.model_dump(mode="json"))
    asker = Asker(config, store)
    address = f"sqlite:///{tmp_path}/store/optuna.db"
    mirror = Mirror(config, store, address, lambda: (asker.asks, asker.records))
    app = optuna_dashboard.wsgi(RDBStorage(address))
    for _ in range(8):
        ask = next_ask(asker)
        assert ask is not None
        store.write_record(invented_record(ask.key, store.read_config(ask.key)), driver_epoch=0)
        asker.end(ask.number)
    assert next_ask(asker) is not None
    asker.close()
    mirror.update()
    names = {study["study_name"]: study["study_id"] for study in get(app, "/api/studies")["study_summaries"]}
    assert sorted(names) == ["small", "small candidates"]
    found = get(app, f"/api/studies/{names['small']}")
    states = Counter(trial["state"] for trial in found["trials"])
    assert states["Complete"] == 8
    assert states["Running"] >= 1
    assert found["objective_names"] == ["accuracy", "adapter_params"]
    assert found["best_trials"]
    searched = {parameter["name"] for trial in found["trials"] for parameter in trial["params"]}
    assert searched == set(config.space)
    for each in get(app, f"/api/studies/{names['small']}/param_importances")["param_importances"]:
        assert {one["name"] for one in each} == searched
