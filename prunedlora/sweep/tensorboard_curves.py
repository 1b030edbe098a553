"""Curves for TensorBoard: a folder per trial, in the store where that is local."""

import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunedlora.results.recorded_settings import shown
from prunedlora.results.store import Store
from prunedlora.sweep.curves import CurvesError, Points, Trial

FOLDER = "tensorboard"
WHOLE = "whole"
"""File that says, once a trial has ended, that its folder is whole; in it the trial's key."""


def tensorboard_folder(store: Store, sweep: str) -> Path:
    """In the store, or below the working directory where that is elsewhere: event files grow, objects cannot."""
    return Path(store.uri) / FOLDER if store.storage.is_local else Path(FOLDER).absolute() / sweep


def check_tensorboard() -> None:
    """Raises CurvesError when the package is missing."""
    if find_spec("tensorboardX") is None:
        raise CurvesError("loggers: tensorboard takes the package tensorboardX: pip install tensorboardX")


class TensorBoardSink:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ended(self) -> set[str]:
        return {path.read_text() for path in self._folder.glob(f"*/{WHOLE}")}

    def begin(self, trial: Trial) -> "TensorBoardCurve":
        for path in self._folder.glob(f"*{trial.key}"):  # under another label too
            shutil.rmtree(path)
        return TensorBoardCurve(self._folder / re.sub(r"[^\w.-]+", "_", trial.name), trial)


class TensorBoardCurve:
    def __init__(self, folder: Path, trial: Trial) -> None:
        from tensorboardX import SummaryWriter

        self._folder, self._key = folder, trial.key
        self._writer = SummaryWriter(str(folder))
        self._writer.add_text("settings", _table(trial.settings))

    def write(self, points: Points) -> None:
        for name, step, value in points:
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()
        (self._folder / WHOLE).write_text(self._key)


def _table(settings: Mapping[str, Any]) -> str:
    """As Markdown, which TensorBoard shows."""
    rows = (f"| {path} | {shown(value)} |" for path, value in settings.items())
    return "\n".join(("| setting | value |", "|---|---|", *rows))
