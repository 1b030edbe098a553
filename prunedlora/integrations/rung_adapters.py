"""The adapters that a ladder leaves while a Trainer trains: a folder for each, and an index for machines."""

import json
import os
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


class RungNotVerifiedWarning(UserWarning):
    """The adapter of a rung is saved, but is not shown to be the one that was trained; training goes on, and ends with
    the error."""


class RungAdapters:
    """Folders `<output_dir>/rungs/<number>-<parameters>`, "1-54900" for example, and their index."""

    def __init__(self, output_dir: str | None, rungs: Sequence[Rung], step: int) -> None:
        """`step`: steps done when training begins; what an earlier part of it has left until then stays in the index,
        what was left later, or by another training, goes from it.

        Raises CallbackError for an index that is none, or of a training with its rungs elsewhere.
        """
        self.folder = Path(str(output_dir)) / RUNGS_FOLDER
        self.not_verified: list[CallbackError] = []
        """What is wrong with the adapters left since."""
        self._rungs = rungs
        self._left: list[dict[str, Any]] = []
        """What the index holds."""
        if self._index.is_file():
            self._left = [entry for entry in self._read() if entry["step"] <= step]
            self._check_left()
            self._write()

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
        left as it was; what another training has left of that rung goes.
        """
        trained = plain_layers(model, adapter_name)
        layers = live_part(trained, live)
        num_parameters = sum(factor.numel() for layer in layers for factor in (layer.A, layer.B))
        folder = self.folder / f"{rung.number}-{num_parameters}"
        for other in self.folder.glob(f"{rung.number}-*"):
            if other != folder:
                shutil.rmtree(other)
        save_adapter(model, adapter_name, folder, layers)
        try:
            check_saved(model, adapter_name, folder, trained, layers, example)
        except CallbackError as error:
            self.not_verified.append(error)
            warnings.warn(f"rung {rung.number}: {error}", RungNotVerifiedWarning, stacklevel=2)
            return
        ranks = {layer.name: layer.rank for layer in layers}
        entry = {"rung": rung.number, "step": rung.end, "parameters": num_parameters, "ranks": ranks}
        self._left.append(entry | {"folder": folder.name})
        self._write()

    def unfinished(self, step: int) -> str | None:
        """How far down the ladder a training came that ended after `step` steps; None: all the way."""
        num_passed, last = sum(rung.end <= step for rung in self._rungs), len(self._rungs) - 1
        if num_passed > last:
            return None
        which = f"rung {num_passed} of {last}" if num_passed else "the ladder's trunk"
        names = [str(self.folder / entry["folder"]) for entry in self._left]
        return f"before {which} was done, with adapters of the rungs passed in {', '.join(names) or 'no folder'}"

    def _check_left(self) -> None:
        ends = {rung.number: rung.end for rung in self._rungs}
        for entry in self._left:
            if entry["step"] != (end := ends.get(entry["rung"])):
                now = "there is none" if end is None else f"it ends with step {end}"
                raise CallbackError(
                    f"cannot resume: by {self._index}, rung {entry['rung']} ended with step {entry['step']}, and now "
                    f"{now}: resume with the ladder and the number of steps that the training began with"
                )

    @property
    def _index(self) -> Path:
        return self.folder / INDEX_NAME

    def _read(self) -> list[dict[str, Any]]:
        try:
            entries: list[dict[str, Any]] = json.loads(self._index.read_text("utf-8"))
            _ = [(entry["rung"], entry["step"] + 0) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise CallbackError(f"{self._index} is no index of a ladder's adapters; move it away: {error!r}") from error
        return entries

    def _write(self) -> None:
        """At once, whoever reads meanwhile."""
        new = self._index.with_suffix(".new")
        new.write_text(json.dumps(self._left, indent=2) + "\n", encoding="utf-8")
        os.replace(new, self._index)
