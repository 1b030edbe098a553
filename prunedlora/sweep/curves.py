"""Curves of trials for the tools that draw them: they follow from the trials' logs and records alone, so that they are
whole whatever was interrupted, and can be made anew at any time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prunedlora.results.record import TrialRecord
from prunedlora.results.recorded_settings import flat
from prunedlora.results.store import Store

STEP_FIGURES = ("loss", "learning_rate", "grad_norm", "loss_scale")
"""Of a line of a trial's log."""
CANDIDATE_SIZES = ("adapter_params", "max_rank")


class CurvesError(RuntimeError):
    """Curves that cannot be written; the message says why."""


@dataclass(frozen=True)
class Trial:
    key: str
    label: str | None
    settings: Mapping[str, Any]
    """Dotted path → value."""

    @property
    def name(self) -> str:
        return self.key if self.label is None else f"{self.label} {self.key}"


Points = Sequence[tuple[str, int, float]]
"""(curve, step, value)"""


class Curve(Protocol):
    """Of one trial, begun anew."""

    def write(self, points: Points) -> None: ...

    def end(self, status: str) -> None:
        """It is whole: the trial ended so."""


class Sink(Protocol):
    """A tool's own form of curves."""

    def ended(self) -> set[str]:
        """Keys of the trials whose curve is there whole."""

    def begin(self, trial: Trial) -> Curve:
        """What is there of it goes."""


class Curves:
    """Follows the trials of a run; for one thread."""

    def __init__(
        self, store: Store, sink: Sink, trials: Callable[[], Iterable[tuple[str, TrialRecord | None]]]
    ) -> None:
        """`trials`: keys of those that were begun, or may have been, with the records of those that have ended."""
        self._store = store
        self._sink = sink
        self._trials = trials
        self._whole: dict[str, TrialRecord | None] | None = None
        """Key → the record that is shown; None: of an earlier run, which left it whole."""
        self._begun: dict[str, tuple[Curve, list[dict[str, Any]]]] = {}

    def update(self) -> None:
        """Writes what is new. Raises StoreError, RecordError, and what the tool raises; the next then makes those anew
        that have not ended."""
        try:
            if self._whole is None:
                self._whole = dict.fromkeys(self._sink.ended())
            for key, record in self._trials():
                known = self._whole.get(key)
                if record is None or (known is not None and known is not record):  # it trains, or trained, again
                    self._whole.pop(key, None)
                if key not in self._whole:
                    self._follow(key, record)
        except BaseException:
            self._begun.clear()
            raise

    def _follow(self, key: str, record: TrialRecord | None) -> None:
        assert self._whole is not None
        log = self._store.read_log(key)
        if not log and record is None:
            return
        curve, written = self._begun.get(key, (None, []))
        if curve is None or log[: len(written)] != written:  # steps before an interruption were done again
            curve, written = self._sink.begin(self._trial(key)), []
        curve.write([point for line in log[len(written) :] for point in points_of(line)])
        self._begun[key] = curve, log
        if record is not None:
            curve.end(record.status)
            del self._begun[key]
            self._whole[key] = record

    def _trial(self, key: str) -> Trial:
        return Trial(key, self._store.read_label(key), flat(self._store.read_config(key)))


def points_of(line: Mapping[str, Any]) -> Points:
    """What a line of a trial's log says of a step, or of a candidate that was made after it."""
    if "candidate" in line:
        return _candidate_points(line)
    return _step_points(line) if "loss" in line else []


def _step_points(line: Mapping[str, Any]) -> Points:
    step = line["step"]
    points = [(f"train/{name}", step, float(line[name])) for name in STEP_FIGURES if line.get(name) is not None]
    if line.get("tokens") and line.get("seconds"):
        points.append(("train/tokens_per_second", step, line["tokens"] / line["seconds"]))
    if line.get("ranks") is not None:
        points.append(("train/total_rank", step, float(sum(line["ranks"].values()))))
    return points


def _candidate_points(line: Mapping[str, Any]) -> Points:
    """Figures and sizes of a candidate at the step it was made at; of a cut its figures at its number of parameters,
    since all cuts of a training are of one step."""
    step, params, figures = line["step"], line["adapter_params"], line["figures"]
    if line["candidate"] != str(step):
        return [(f"cuts_by_parameters/{name}", params, float(value)) for name, value in figures.items()]
    sizes = {name: line[name] for name in CANDIDATE_SIZES}
    return [(f"candidates/{name}", step, float(value)) for name, value in (figures | sizes).items()]
