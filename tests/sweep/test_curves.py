"""Curves of trials: what of a log is drawn, and that what was interrupted or trained again is drawn once."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.curves import Curves, CurvesError, Points, Trial, points_of
from prunedlora.sweep.mlflow_curves import check_mlflow, mlflow_uri, shown_uri
from prunedlora.sweep.tensorboard_curves import TensorBoardSink, check_tensorboard, tensorboard_folder
from tests.inventions import invented_record

KEY = "a1"
STEPS = [{"step": step, "loss": 1.0 / step, "learning_rate": 0.1, "tokens": 30, "seconds": 2.0} for step in (1, 2, 3)]
CANDIDATE = {"step": 3, "candidate": "3", "adapter_params": 20, "max_rank": 2, "figures": {"accuracy": 0.5}}


class Drawn:
    """A sink that remembers."""

    def __init__(self, ended: set[str] | None = None) -> None:
        self.was_ended = ended or set()
        self.points: list[tuple[str, int, float]] = []
        self.begun: list[Trial] = []
        self.statuses: list[str] = []
        self.fails = False

    def ended(self) -> set[str]:
        return self.was_ended

    def begin(self, trial: Trial) -> "Drawn":
        self.begun.append(trial)
        self.points = []
        return self

    def write(self, points: Points) -> None:
        if self.fails:
            raise ConnectionError("gone")
        self.points += points

    def end(self, status: str) -> None:
        self.statuses.append(status)

    def losses(self) -> list[tuple[int, float]]:
        return [(step, value) for name, step, value in self.points if name == "train/loss"]


@pytest.fixture
def store(tmp_path: Path, make_sweep: Callable[..., SweepConfig]) -> Store:
    config = make_sweep()
    store = Store(config.storage)
    store.write_config(KEY, config.trial.model_dump(mode="json"))
    return store


def record_of(store: Store) -> TrialRecord:
    return invented_record(KEY, store.read_config(KEY))


def test_what_a_log_says() -> None:
    assert points_of(STEPS[1]) == [
        ("train/loss", 2, 0.5),
        ("train/learning_rate", 2, 0.1),
        ("train/tokens_per_second", 2, 15.0),
    ]
    assert points_of({"step": 4, "loss": 1.0, "ranks": {"a": 2, "b": 1}, "loss_scale": 8.0}) == [
        ("train/loss", 4, 1.0),
        ("train/loss_scale", 4, 8.0),
        ("train/total_rank", 4, 3.0),
    ]
    assert points_of(CANDIDATE) == [
        ("candidates/accuracy", 3, 0.5),
        ("candidates/adapter_params", 3, 20.0),
        ("candidates/max_rank", 3, 2.0),
    ]
    assert points_of(CANDIDATE | {"candidate": "3r1"}) == [("cuts_by_parameters/accuracy", 20, 0.5)]
    assert points_of({"resumed_at_step": 3}) == points_of({"step": 3, "rung": 1, "ranks": {"a": 1}}) == []


def test_a_curve_grows_and_ends_with_its_trial(store: Store) -> None:
    drawn, records = Drawn(), list[TrialRecord | None]([None])
    curves = Curves(store, drawn, lambda: [(KEY, records[-1])])
    curves.update()
    assert drawn.begun == []  # it waits, and is no run with nothing in it
    store.append_log(KEY, STEPS[:2])
    curves.update()
    assert drawn.losses() == [(1, 1.0), (2, 0.5)]
    store.append_log(KEY, [STEPS[2], CANDIDATE])
    curves.update()
    records.append(record_of(store))
    curves.update()
    curves.update()
    assert drawn.losses() == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]
    assert ("candidates/accuracy", 3, 0.5) in drawn.points
    assert drawn.statuses == ["completed"]
    (trial,) = drawn.begun
    assert trial.settings["adapter.alpha"] == 8


def test_steps_that_are_done_again_are_drawn_once(store: Store) -> None:
    drawn = Drawn()
    curves = Curves(store, drawn, lambda: [(KEY, None)])
    store.append_log(KEY, STEPS)
    curves.update()
    again = {"step": 2, "loss": 0.75}
    store.append_log(KEY, [{"resumed_at_step": 1}, again])
    curves.update()
    assert drawn.losses() == [(1, 1.0), (2, 0.75)]


def test_after_a_failure_a_curve_is_made_anew(store: Store) -> None:
    drawn = Drawn()
    curves = Curves(store, drawn, lambda: [(KEY, None)])
    store.append_log(KEY, STEPS[:1])
    curves.update()
    store.append_log(KEY, STEPS[1:])
    drawn.fails = True
    with pytest.raises(ConnectionError):
        curves.update()
    drawn.fails = False
    curves.update()
    assert drawn.losses() == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]


def test_whole_ones_are_left_and_one_that_trains_again_is_begun_again(store: Store) -> None:
    store.append_log(KEY, STEPS)
    records: list[TrialRecord | None] = [record_of(store)]
    drawn = Drawn(ended={KEY})
    curves = Curves(store, drawn, lambda: [(KEY, records[-1])])
    curves.update()
    assert drawn.begun == []
    records.append(None)  # --retry-failed
    curves.update()
    records.append(record_of(store))
    curves.update()
    assert len(drawn.begun) == 1
    records.append(record_of(store))  # it was paused, and has gone on since
    curves.update()
    assert len(drawn.begun) == 2
    assert drawn.losses() == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Of TensorBoard's event files: records of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value if v.HasField("simple_value")]
            at += 16 + length
    return found


def test_tensorboard_has_a_folder_per_trial(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "curves"
    records: list[TrialRecord | None] = [None]
    store.append_log(KEY, STEPS[:2])
    Curves(store, TensorBoardSink(folder), lambda: [(KEY, None)]).update()  # of a driver that was killed then
    store.write_label(KEY, "plain LoRA, rank 8")
    store.append_log(KEY, STEPS[2:])
    curves = Curves(store, TensorBoardSink(folder), lambda: [(KEY, records[-1])])
    curves.update()
    records.append(record_of(store))
    curves.update()
    (only,) = folder.iterdir()
    assert only.name == "plain_LoRA_rank_8_a1"
    losses = [(step, value) for name, step, value in scalars(only) if name == "train/loss"]
    assert losses == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert TensorBoardSink(folder).ended() == {KEY}


def test_where_curves_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    local, far = Store(str(tmp_path / "store")), Store("memory://store")
    assert tensorboard_folder(local, "s") == tmp_path / "store" / "tensorboard"
    assert tensorboard_folder(far, "s") == tmp_path / "tensorboard" / "s"
    assert mlflow_uri(local) == f"sqlite:///{tmp_path}/store/mlflow.db"
    assert mlflow_uri(far) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example")
    assert mlflow_uri(local) == "https://me:hunter2@mlflow.example"
    assert shown_uri(local) == "https://mlflow.example"


def test_a_missing_package_is_an_error_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("tensorboard_curves", "mlflow_curves"):
        monkeypatch.setattr(f"prunedlora.sweep.{place}.find_spec", lambda name: None)
    with pytest.raises(CurvesError, match="tensorboard takes the package tensorboardX: pip install tensorboardX"):
        check_tensorboard()
    with pytest.raises(CurvesError, match="mlflow takes the package mlflow: pip install mlflow"):
        check_mlflow(Store(str(tmp_path / "store")))


def test_mlflow_with_no_place_for_its_runs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("prunedlora.sweep.mlflow_curves.find_spec", lambda name: True)
    with pytest.raises(CurvesError, match="no place in the storage memory:///store: set MLFLOW_TRACKING_URI"):
        check_mlflow(Store("memory://store"))
