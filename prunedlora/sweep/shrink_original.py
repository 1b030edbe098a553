"""The adapter that is to shrink, as its files tell it: found, refused by name where it cannot be shrunk, and measured.

No model is loaded, and nothing of the base is asked for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prunedlora.adapter_place import STORED, split_stored
from prunedlora.adapters.existing import CLASS_HEADS, ExistingAdapter, told, way_to_lora
from prunedlora.adapters.export import CONFIG_NAME
from prunedlora.adapters.file_layers import FileLayer, read_factors
from prunedlora.config.identity import ADAPTER_WEIGHTS
from prunedlora.config.trial_sections import AdapterConfig
from prunedlora.missing_path import looked_for
from prunedlora.pruning.target import Start
from prunedlora.results.analysis.named_adapter import find_adapter
from prunedlora.trial.start import existing_start

SEQ_CLS = "SEQ_CLS"
MOST_NAMED = 3


class ShrinkError(ValueError):
    """Something that cannot be shrunk, or not as asked; the message says what would do."""


@dataclass(frozen=True)
class Original:
    """An adapter as it came."""

    existing: ExistingAdapter
    task_type: str | None
    """PEFT's: SEQ_CLS, CAUSAL_LM, …; None: it does not say."""
    base_name: str | None
    """What its configuration calls its base model."""
    base_revision: str | None
    base_settings: Mapping[str, Any] | None
    """The model section of the trial that made it, of an adapter out of a store."""
    labels: tuple[str, ...] | None
    """Its classes in the order of its logits, where it tells them."""
    layers: tuple[FileLayer, ...]
    heads: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Full name of a module that is trained whole → its tensors' names in it → their shapes."""

    @property
    def start(self) -> Start:
        """The layers, as sizes are reckoned with."""
        return Start.of_layers(self.layers)

    @property
    def num_parameters(self) -> int:
        """Numbers in A and B."""
        return self.start.size("parameters")

    @property
    def words(self) -> str:
        """Its layers, ranks, parameters and heads, for people."""
        heads = f"; trained whole, and kept: {', '.join(self.heads)}" if self.heads else ""
        num = len(self.layers)
        return f"{num} layer{'s' * (num > 1)} of {self.start.words}, {self.num_parameters:,} parameters{heads}"


def read_original(name: str, revision: str | None = None) -> Original:
    """The adapter of this name: a folder of PEFT's, a name on the Hub (at `revision`), or store:STORE/KEY@NAME.

    Raises ShrinkError for what is no adapter or has no weights; ExistingAdapterError for a form of LoRA that is not
    gone on from, layers that are not linear, weights that are damaged, and updates that are all zero; LocationError and
    StoreError for what the Hub or a store does not give.
    """
    is_here = _check_place(name)
    if revision is not None and (is_here or name.startswith(STORED)):
        raise ShrinkError(f"--revision {revision} has no effect on {name!r}, which is not from the Hub; remove it")
    start = existing_start(name, AdapterConfig(method="lora", start_from=name, revision=revision))
    existing = start.existing
    assert existing is not None
    _check_kind(existing)
    sizes, _, others = read_factors(existing)
    config = sizes.config
    settings: Any = find_adapter(name).record.config.get("model") if name.startswith(STORED) else None
    original = Original(
        existing=existing,
        task_type=None if config.task_type is None else str(getattr(config.task_type, "value", config.task_type)),
        base_name=config.base_model_name_or_path or None,
        base_revision=config.revision or None,
        base_settings=settings,
        labels=start.labels,
        layers=sizes.layers,
        heads=_heads(others, config.modules_to_save or (CLASS_HEADS if config.task_type == SEQ_CLS else ())),
    )
    if original.task_type == SEQ_CLS and not original.heads:
        raise ShrinkError(
            f"{told(existing)} is of a classifier (task type {SEQ_CLS}), and its file holds no head, which classifiers "
            "of our trials train whole: train it with modules_to_save, or shrink it without --data"
        )
    return original


def _check_place(name: str) -> bool:
    """Whether `name` is a folder here. Raises ShrinkError for a path where no adapter of PEFT's lies."""
    if name.startswith(STORED):
        try:
            split_stored(name)
        except ValueError as error:
            raise ShrinkError(str(error)) from error
        return False
    path = Path(name).expanduser()
    if not path.exists():
        if name.startswith(("/", "./", "../", "~")):
            raise ShrinkError(f"adapter {name!r} does not exist ({looked_for(name)})")
        return False
    if not path.is_dir():
        raise ShrinkError(f"adapter {name!r} is a file: name the folder that PEFT's save_pretrained wrote")
    if not (path / CONFIG_NAME).is_file():
        raise ShrinkError(f"{name!r} is no folder of an adapter: it has no {CONFIG_NAME}{_instead(path)}")
    if not any((path / file).is_file() for file in ADAPTER_WEIGHTS):
        raise ShrinkError(f"adapter {name!r} has no weights: {' or '.join(ADAPTER_WEIGHTS)} beside its {CONFIG_NAME}")
    return True


def _instead(folder: Path) -> str:
    """What a folder without an adapter is."""
    if not any(folder.iterdir()):
        return "; it is empty"
    below = sorted(config.parent for config in folder.glob(f"*/{CONFIG_NAME}"))
    if below:
        more = f", and {len(below) - MOST_NAMED} more" if len(below) > MOST_NAMED else ""
        return f"; there is one in {', '.join(map(str, below[:MOST_NAMED]))}{more}"
    if (folder / "config.json").is_file():
        return "; it is that of a whole model (config.json), which shrinks by other means: name an adapter's"
    return ""


def _check_kind(existing: ExistingAdapter) -> None:
    """Raises ShrinkError for another tuner than LoRA, for which read_config would advise a setting of sweep files."""
    tree = json.loads((existing.folder / CONFIG_NAME).read_text("utf-8"))
    kind = tree.get("peft_type")
    if isinstance(kind, str) and kind != "LORA":
        raise ShrinkError(f"{told(existing)} is of kind {kind}: only LoRA adapters can be shrunk{way_to_lora(kind)}")


def _heads(others: Mapping[str, Tensor], endings: Sequence[str]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Of the modules whose names end like one of `endings`, as PEFT takes them, those that the file has."""
    heads: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in others.items():
        parts = name.split(".")
        modules = (".".join(parts[:number]) for number in range(1, len(parts)))
        head = next((module for module in modules if module.endswith(tuple(endings))), None)
        if head is not None:
            heads.setdefault(head, {})[name.removeprefix(f"{head}.")] = tuple(tensor.shape)
    return dict(sorted(heads.items()))
