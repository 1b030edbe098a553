"""Start: the adapter that a trial begins with where one exists, found and brought to this machine."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import snapshot_download
from torch import nn

from prunedlora.adapter_place import STORED
from prunedlora.adapters.adapted_share import AdaptedShare, adapted_share
from prunedlora.adapters.attach import AdapterSettings, attach, detach, left_out
from prunedlora.adapters.existing import ExistingAdapter, ExistingAdapterError
from prunedlora.adapters.export import CONFIG_NAME, LABELS_FILE
from prunedlora.adapters.plain import adapted_names
from prunedlora.adapters.targets import resolve_head, resolve_targets
from prunedlora.checksums import file_sha256
from prunedlora.config.identity import (
    ADAPTER_WEIGHTS,
    LocationError,
    check_revision,
    file_digest,
    folder_ranks,
    looks_local,
    model_location,
    ranks_digest,
)
from prunedlora.config.pins import COMMIT
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import AdapterConfig
from prunedlora.hub_access import access_hint
from prunedlora.missing_path import looked_for
from prunedlora.registry import lookup
from prunedlora.results.analysis.find import UnknownCandidateError
from prunedlora.results.analysis.named_adapter import NamedAdapter, find_adapter
from prunedlora.results.storage import StoreError
from prunedlora.training.model import BaseModel, check_new_parameters, draw_new_parameters
from prunedlora.trial.assets import Skeleton

Found = TypeVar("Found")
FILES = (CONFIG_NAME, *ADAPTER_WEIGHTS, LABELS_FILE)
"""What of a repository on the Hub is an adapter."""
FRESH = {
    "initial_rank", "alpha", "use_rslora", "dropout", "target_modules", "head_modules", "layers_to_transform",
}  # fmt: skip
"""Fields of an adapter's section that say how it is attached, and nothing of one that exists."""
_FETCHED: dict[tuple[str, str | None], "tempfile.TemporaryDirectory[str]"] = {}
"""Adapters out of stores, by name and checksum, as long as this process lives."""
_FROM_HUB: dict[tuple[str, str | None], Path] = {}
"""Adapters by name and commit, as the Hub's client has put them on this machine: it asks the Hub each time."""


@dataclass(frozen=True)
class Start:
    """What an adapter that exists gives a trial."""

    existing: ExistingAdapter | None
    """To go on from; None: only its ranks are taken."""
    ranks: Mapping[str, int] | None
    base_names: tuple[str, ...]
    """What its base model is called, as far as that is known."""
    labels: tuple[str, ...] | None
    """Its classes in the order of its logits, where that is known."""
    facts: dict[str, Any]
    """Which adapter it was, for the record."""


def start_of(trial: TrialConfig) -> Start | None:
    """What the configuration's adapter begins with; None: a fresh one, or full fine-tuning.

    Raises LocationError for an adapter that is not there, StoreError for a store that does not answer or a file that is
    not the recorded one, ExistingAdapterError for another base model, unless the configuration says so.
    """
    adapter = trial.adapter
    if adapter is None or adapter.existing is None:
        return None
    check_revision(adapter)
    if adapter.rank_pattern_from is not None:
        ranks, facts = _ranks(adapter.rank_pattern_from, adapter.revision)
        return Start(None, ranks, (), None, {"rank_pattern_from": adapter.rank_pattern_from, **facts})
    assert adapter.start_from is not None
    start = existing_start(adapter.start_from, adapter)
    _check_base(start, trial)
    return start


def adapter_settings(trial: TrialConfig, start: Start | None, reached: Any = None) -> AdapterSettings | None:
    """What is attached for the configuration, which begins with `start`; None for full fine-tuning. `reached`: what it
    may adapt (Reach)."""
    if trial.adapter is None:
        return None
    return AdapterSettings(
        **trial.adapter.model_dump(include=FRESH),
        reached=reached,
        ranks=None if start is None else start.ranks,
        existing=None if start is None else start.existing,
    )


def names_to_adapt(trial: TrialConfig, skeleton: Skeleton, start: Start | None) -> list[str]:
    """Full names of the layers that the configuration, which begins with `start`, adapts, in module order. Raises
    TargetError."""
    settings, model = adapter_settings(trial, start, skeleton.reach.modules), skeleton.model
    assert settings is not None
    if settings.target_modules is not None:
        heads = resolve_head(model, settings.head_modules)
        return resolve_targets(model, settings.target_modules, heads, settings.layers_to_transform, settings.reached)
    return _on_skeleton(settings, model, lambda adapted: adapted_names(adapted, "default"))


def left_out_of(trial: TrialConfig, skeleton: Skeleton, start: Start | None) -> tuple[str, ...]:
    """Full names of the layers of an adapter to go on from that the task does not reach and that are left out. Raises
    TargetError."""
    settings = adapter_settings(trial, start, skeleton.reach.modules)
    return () if settings is None or settings.existing is None else _on_skeleton(settings, skeleton.model, left_out)


def share_of(trial: TrialConfig, skeleton: Skeleton, start: Start | None) -> AdaptedShare | None:
    """What part of the base model the configuration, which begins with `start`, adapts; None for full fine-tuning.
    Raises TargetError."""
    if trial.adapter is None:
        return None
    heads = resolve_head(skeleton.model, trial.head_modules)
    return adapted_share(skeleton.model, heads, names_to_adapt(trial, skeleton, start), skeleton.reach)


def begin_heads(trial: TrialConfig, model: nn.Module, base: BaseModel) -> None:
    """Draws what the checkpoint lacks of the heads on an attached `model`; those of an adapter that is gone on from it
    has, and they stay. Raises ModelError for a parameter that the checkpoint lacks and that does not train."""
    if trial.adapter is None or trial.adapter.start_from is None:
        draw_new_parameters(model, base, trial.seed)
    else:
        check_new_parameters(model, base.new_parameters)


def labels_of(trial: TrialConfig, start: Start | None) -> tuple[str, ...] | None:
    """The classes in the order of the head's logits, as the configuration or the adapter in `start` tells them; None:
    neither does, and the data's are sorted. Whether they are those of the data, loading these tells (DataError).

    Raises ExistingAdapterError where the two contradict each other.
    """
    told = None
    if start is not None and trial.head_modules and lookup("task", trial.data.task).has_classes:
        told = start.labels
    given = None if trial.data.labels is None else tuple(trial.data.labels)
    if told is not None and given is not None and given != told:
        raise ExistingAdapterError(
            f"adapter {trial.adapter and trial.adapter.start_from!r} tells the classes {list(told)}, in this order; "
            f"data.labels has {list(given)}: the head would take one for another; remove data.labels"
        )
    return given or told


def _on_skeleton(settings: AdapterSettings, model: nn.Module, read: Callable[[Any], Found]) -> Found:
    """What `read` says of the model with the adapter, which is taken off again."""
    adapted = attach(model, settings, "default", 0)
    try:
        return read(adapted)
    finally:
        detach(adapted)


def existing_start(name: str, adapter: AdapterConfig) -> Start:
    """What the adapter that is called `name` gives a trial, whatever its base model. Raises LocationError, StoreError,
    ExistingAdapterError, as start_of."""
    facts: dict[str, Any] = {"start_from": name}
    bases: list[Any] = []
    labels: list[Any] | None = None
    if name.startswith(STORED):
        found = _found(name)
        folder = _fetched(name, found)
        model = found.record.config.get("model")
        bases.append(model.get("name") if isinstance(model, dict) else None)
        order = found.record.environment.model.get("labels")
        labels = order if isinstance(order, list) else None
    elif looks_local(name):
        folder = Path(name).expanduser()
    else:
        folder = _from_hub(name, adapter.revision)
        facts["revision"] = folder.name
    weights = next((folder / file for file in ADAPTER_WEIGHTS if (folder / file).is_file()), None)
    if weights is None or not (folder / CONFIG_NAME).is_file():
        missing = CONFIG_NAME if weights is not None else ADAPTER_WEIGHTS[0]
        raise LocationError(f"adapter {name!r} has no {missing} ({looked_for(str(folder / missing))})")
    try:
        bases.append(json.loads((folder / CONFIG_NAME).read_text("utf-8")).get("base_model_name_or_path"))
        if labels is None and (folder / LABELS_FILE).is_file():
            by_number = json.loads((folder / LABELS_FILE).read_text("utf-8"))
            labels = [by_number[str(number)] for number in range(len(by_number))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExistingAdapterError(f"adapter {name!r}: {CONFIG_NAME} or {LABELS_FILE} is damaged: {error}") from error
    return Start(
        existing=ExistingAdapter(name, folder.resolve(), adapter.convert_to_lora),
        ranks=None,
        base_names=tuple(str(base) for base in bases if base),
        labels=None if labels is None else tuple(map(str, labels)),
        facts=facts | {"sha256": file_digest(weights), "config_sha256": file_digest(folder / CONFIG_NAME)},
    )


def _ranks(name: str, revision: str | None) -> tuple[dict[str, int], dict[str, Any]]:
    facts = {}
    if name.startswith(STORED):
        ranks = dict(_found(name).candidate.ranks)
    elif looks_local(name):
        ranks = folder_ranks(Path(name).expanduser())
    else:
        folder = _from_hub(name, revision)
        ranks, facts = folder_ranks(folder), {"revision": folder.name}
    return ranks, {**facts, "ranks_sha256": ranks_digest(ranks)}


def _check_base(start: Start, trial: TrialConfig) -> None:
    assert trial.adapter is not None
    wanted, names = trial.model.name, start.base_names
    if not names or trial.adapter.other_base or any(_is_same(name, wanted) for name in names):
        return
    raise ExistingAdapterError(
        f"adapter {trial.adapter.start_from!r} is of base model {names[0]!r}, not of {wanted!r}; where that is the "
        "same one by another name, set adapter.other_base: true"
    )


def _is_same(name: str, wanted: str) -> bool:
    """Whether an adapter's name of its base is that of a configuration: the same, the same folder, or the folder of
    the same package in another installation."""
    if wanted.startswith("package:") and name.endswith("/" + wanted.removeprefix("package:")):
        return True
    if name == wanted:
        return True
    return (
        looks_local(wanted) and looks_local(name) and str(Path(name).expanduser().resolve()) == model_location(wanted)
    )


def _found(name: str) -> NamedAdapter:
    try:
        return find_adapter(name)
    except UnknownCandidateError as error:
        raise LocationError(f"adapter {name!r}: {error}") from error


def _fetched(name: str, found: NamedAdapter) -> Path:
    """The candidate's folder, copied out of its store once."""
    key = name, found.candidate.file_sha256
    if key not in _FETCHED:
        try:
            path = found.path
        except UnknownCandidateError as error:
            raise LocationError(f"adapter {name!r}: {error}") from error
        origin = found.store.storage.uri_of(path)
        if not found.store.has_folder(path):
            raise StoreError(f"{origin} does not exist: the adapter is gone")
        scratch = tempfile.TemporaryDirectory(prefix="prunedlora-adapter-")
        folder = Path(scratch.name) / "adapter"
        found.store.download_folder(path, folder)
        weights = folder / ADAPTER_WEIGHTS[0]
        if not weights.is_file() or file_sha256(weights) != found.candidate.file_sha256:
            raise StoreError(f"{origin} is damaged: its weights are gone, or are not those that were recorded")
        _FETCHED[key] = scratch
    return Path(_FETCHED[key].name) / "adapter"


def _from_hub(name: str, revision: str | None) -> Path:
    """The folder of the adapter in this machine's cache of the Hub, which is called by its commit."""
    known = _FROM_HUB.get((name, revision))
    if known is not None and known.is_dir():
        return known
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # without network its type depends on the HTTP library of the client's version
        raise LocationError(
            f"adapter {name!r} does not exist here ({looked_for(name)}), and the Hub does not give it: "
            f"{error}{access_hint(error)}"
        ) from error
    if revision is not None and COMMIT.fullmatch(revision):  # a branch moves
        _FROM_HUB[name, revision] = folder
    return folder
