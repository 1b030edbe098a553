"""Where a running sweep is seen: begun with it, ended with it, and left at once where the process must."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.store import Store
from prunedlora.study.asker import Asker
from prunedlora.sweep import follower
from prunedlora.sweep.follower import Follower
from prunedlora.sweep.seen_elsewhere import elsewhere_lines, seen_elsewhere

Make = Callable[..., SweepConfig]


def test_what_to_type_is_said(make_sweep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = make_sweep(loggers=["mlflow", "tensorboard"])
    store = Store(config.storage)
    assert elsewhere_lines(config, store) == [
        f"Mirror: optuna-dashboard sqlite:///{store.uri}/optuna.db",
        f"Curves: tensorboard --logdir {store.uri}/tensorboard",
        f"Curves: mlflow ui --backend-store-uri sqlite:///{store.uri}/mlflow.db",
    ]
    assert elsewhere_lines(make_sweep(mirror="journal:/x/y.log"), store) == ["Mirror: optuna-dashboard /x/y.log"]
    assert elsewhere_lines(make_sweep(mirror=None), store) == []


@pytest.mark.parametrize(("error", "num_closed"), [(None, 1), (ValueError, 1), (KeyboardInterrupt, 1), (SystemExit, 0)])
def test_nobody_waits_for_it_when_terminated(
    make_sweep: Make,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException] | None,
    num_closed: int,
) -> None:
    closed: list[Follower] = []
    monkeypatch.setattr(follower, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(Follower, "close", lambda self: closed.append(self))
    config = make_sweep(num_trials=1, mirror=f"journal:{tmp_path}/no/folder.log")
    store = Store(config.storage)
    store.create_or_open(config.model_dump(mode="json"))
    seen = seen_elsewhere(config, store, Asker(config, store), Console(file=io.StringIO()))
    if error is None:
        with seen:
            pass
    else:
        with pytest.raises(error), seen:
            raise error
    assert len(closed) == num_closed
