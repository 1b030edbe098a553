"""The adapters that a ladder leaves while a Trainer trains: a folder for each, and an index for machines."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from prunedlora.adapters.plain import live_part, plain_layers
from prunedlora.integrations.saved_adapter import check_saved, save_adapter
from prunedlora.integrations.trainer_checks import CallbackError
from prunedlora.pruning.ladder import Rung

RUNGS_FOLDER = "rungs"
"""Inside the Trainer's output_dir."""
INDEX_NAME = "rungs.json"
"""In it, a list in order, one object a rung: `rung` (its number, 0 the trunk), `step` (optimizer steps done),
`parameters` (numbers in A and B), `ranks` (layer name → rank, all layers), `folder` (beside the index)."""
NOT_VERIFIED_NAME = "not_verified.json"
"""Beside it, the same of the adapters that are saved and are not shown to be those that were trained: `rung`, `step`,
`folder` and `problem`."""


class RungNotVerifiedWarning(UserWarning):
    """The adapter of a rung is saved, but is not shown to be the one that was trained; training goes on, and ends with
    the error."""


class RungAdapters:
    """Folders `<output_dir>/rungs/<number>-<parameters>`, "1-54900" for example, and their index."""

    def __init__(self, output_dir: str | None, rungs: Sequence[Rung], step: int) -> None:
        """`step`: steps done when training begins; what an earlier part of it has left until then stays, what was left
        later, or by another training, goes.

        Raises CallbackError for an index that is none, or of a training with its rungs elsewhere.
        """
        self.folder = Path(str(output_dir)) / RUNGS_FOLDER
        self._rungs = rungs
        self._left = self._read(INDEX_NAME, step)
        """What the index holds."""
        self._not_verified = self._read(NOT_VERIFIED_NAME, step)
        if self.folder.is_dir():
            self._write(INDEX_NAME, self._left)
            self._write(NOT_VERIFIED_NAME, self._not_verified)
            self._clear()

    @property
    def not_verified(self) -> list[CallbackError]:
        """What is wrong with the adapters left, also before the training was gone on with."""
        return [CallbackError(entry["problem"]) for entry in self._not_verified]

    def leave(
        self,
        model: Any,
        adapter_name: str,
        rung: Rung,
        live: Mapping[str, Tensor],
        example: Mapping[str, Tensor] | None,
    ) -> None:
        """Saves the adapter of a rung, without what is held at zero, compares it, and puts it into the index.

        `live`: layer name → indices of the components that are there. Warns of one that is not what was trained, or
        cannot be compared: the rungs that follow, and the adapter at the end, are not to be lost with it. The model is
        left as it was.
        """
        trained = plain_layers(model, adapter_name)
        layers = live_part(trained, live)
        num_parameters = sum(factor.numel() for layer in layers for factor in (layer.A, layer.B))
        folder = self.folder / f"{rung.number}-{num_parameters}"
        save_adapter(model, adapter_name, folder, layers)
        try:
            check_saved(model, adapter_name, folder, trained, layers, example)
        except CallbackError as error:
            problem = {"rung": rung.number, "step": rung.end, "folder": folder.name, "problem": str(error)}
            self._not_verified.append(problem)
            self._write(NOT_VERIFIED_NAME, self._not_verified)
            warnings.warn(f"rung {rung.number}: {error}", RungNotVerifiedWarning, stacklevel=2)
            return
        ranks = {layer.name: layer.rank for layer in layers}
        entry = {"rung": rung.number, "step": rung.end, "parameters": num_parameters, "ranks": ranks}
        self._left.append(entry | {"folder": folder.name})
        self._write(INDEX_NAME, self._left)

    def unfinished(self, step: int) -> str | None:
        """How far down the ladder a training came that ended after `step` steps; None: all the way."""
        num_passed, last = sum(rung.end <= step for rung in self._rungs), len(self._rungs) - 1
        if num_passed > last:
            return None
        which = f"rung {num_passed} of {last}" if num_passed else "the ladder's trunk"
        names = [str(self.folder / entry["folder"]) for entry in self._left]
        return f"before {which} was done, with adapters of the rungs passed in {', '.join(names) or 'no folder'}"

    def _clear(self) -> None:
        """Removes the folders of rungs that no file names."""
        kept = {entry["folder"] for entry in [*self._left, *self._not_verified]}
        for folder in self.folder.iterdir():
            if re.fullmatch(r"\d+-\d+", folder.name) and folder.name not in kept:
                shutil.rmtree(folder)

    def _read(self, name: str, step: int) -> list[dict[str, Any]]:
        """The entries until `step`; none where there is no such file."""
        path = self.folder / name
        if not path.is_file():
            return []
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
            _ = [(entry["rung"], entry["folder"], entry["step"] + 0) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise CallbackError(f"{path} is no index of a ladder's adapters; move it away: {error!r}") from error
        ends = {rung.number: rung.end for rung in self._rungs}
        left = [entry for entry in entries if entry["step"] <= step]
        for entry in left:
            if entry["step"] != (end := ends.get(entry["rung"])):
                now = "there is none" if end is None else f"it ends with step {end}"
                raise CallbackError(
                    f"cannot resume: by {path}, rung {entry['rung']} ended with step {entry['step']}, and now "
                    f"{now}: resume with the ladder and the number of steps that the training began with"
                )
        return left

    def _write(self, name: str, entries: Sequence[dict[str, Any]]) -> None:
        """At once, whoever reads meanwhile; a file that would name nothing and is not there stays so."""
        path = self.folder / name
        if not entries and not path.is_file():
            return
        new = path.with_suffix(".new")
        new.write_text(json.dumps(list(entries), indent=2) + "\n", encoding="utf-8")
        os.replace(new, path)
