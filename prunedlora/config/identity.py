"""TrialConfig → key: the same key means the same training, wherever a run keeps its files, whatever machine it uses."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prunedlora.adapter_place import STORED
from prunedlora.config.data_section import DataConfig
from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.harness_tasks import HARNESS_EXTRA, is_path, task_files
from prunedlora.config.metric_names import NO_MEASUREMENT
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import AdapterConfig
from prunedlora.metric_kinds import own_metric
from prunedlora.missing_path import looked_for
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import split_name
from prunedlora.tasks.remote_files import fetch, file_name, hub_file, is_remote

KEY_VERSION = 6
"""Raised whenever the same settings begin to mean another result; prunedlora/CHANGELOG.md says what changed."""
KEY_LENGTH = 16
SETTLED_AFTER_NS = 2_000_000_000
"""So long after its last change the content of a file is remembered."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""PEFT's names of what an adapter's folder holds; the second where there is no first."""
ADAPTER_LABELS = "labels.json"
"""Our own: the order of its classes, where it has some."""
NOT_MEANT = {"base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version"}
"""Fields of an adapter's configuration that say where it comes from."""
FACTOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_A\.weight")
MOST_HEADER = 100_000_000
"""Bytes, as safetensors itself has it."""
_DIGESTS: dict[tuple[int, ...], str] = {}


class LocationError(ValueError):
    """A model or dataset that the configuration names is not there; the message says what was looked for."""


def trial_key(trial: TrialConfig) -> str:
    """Hash of the canonical JSON of the resolved configuration, `KEY_LENGTH` hex digits.

    Installed packages count by name and version, files by the sha256 of their content, here or elsewhere, so no path
    enters it; what is on the Hub by its name and revision.

    Trials of one key have the same data in the same order, the same initial weights and the same rules. On one kind of
    device, with the same packages and equally many workers and threads, they give the same adapter bit for bit on a
    CPU, up to the kernels' own order of sums on a GPU. With other numbers of workers or threads sums round otherwise,
    and where anything drops out (`adapter.dropout`, droplora's granularity element, the base model's own dropout) each
    worker draws for its part of a batch: then it is another sample of the same training. Those numbers belong to the
    cluster, so they are on record with every trial (`environment`) and not in its key.

    Raises LocationError for a model, dataset, adapter or harness task's file that does not exist, a model's name that
    can be none on the Hub, or without lm-eval.
    """
    tree = trial.model_dump(mode="json")
    tree["schema_version"] = KEY_VERSION
    tree["model"]["name"] = _model_identity(trial.model.name)
    if trial.adapter is not None:
        del tree["adapter"]["other_base"]  # a permission
        if trial.training.num_steps == 0:
            del tree["optimizer"]  # its rates, which must be there, decide nothing
        check_revision(trial.adapter)
        for field in ("start_from", "rank_pattern_from"):
            if (name := getattr(trial.adapter, field)) is not None:
                tree["adapter"][field] = adapter_identity(name, ranks_alone=field == "rank_pattern_from")
    for split in ("train", "validation", "test"):
        given = tree["data"][split]
        for source in [] if given is None else given if isinstance(given, list) else [given]:
            source["name"] = _identity(source["name"])
    if (template := template_file(trial.data)) is not None:
        tree["data"]["chat_template"] = _file_identity("data.chat_template", template)
    if (own := own_metric(trial.evaluation.metric)) is not None:
        tree["evaluation"]["metric"] = [_file_identity("evaluation.metric", own[0]), own[1]]
    if trial.evaluation.harness_tasks is not None:
        tree["evaluation"]["harness_tasks"] = [_harness_identity(name) for name in trial.evaluation.harness_tasks]
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


def contents(trials: Iterable[TrialConfig]) -> dict[str, Any]:
    """What the names of models, data and harness tasks in these configurations stand for, by content: name → identity,
    as it enters `trial_key`. Raises LocationError for what does not exist.
    """
    found: dict[str, Any] = {}
    for trial in trials:
        if trial.model.name not in found:
            found[trial.model.name] = _model_identity(trial.model.name)
        found |= data_contents(trial)
        found |= metric_contents(trial)
        found |= {name: _harness_identity(name) for name in trial.evaluation.harness_tasks or ()}
        found |= adapter_contents(trial)
    return found


def metric_contents(trial: TrialConfig) -> dict[str, Any]:
    """The part of `contents` that is the file of a metric of one's own. Raises LocationError where it is not there."""
    own = own_metric(trial.evaluation.metric)
    return {} if own is None else {str(own[0]): _file_identity("evaluation.metric", own[0])}


def metric_identity(trial: TrialConfig) -> dict[str, Any] | None:
    """What the metric's figures are measured by, where their name does not say it: content and function of a metric of
    one's own; of a figure of lm-evaluation-harness its tasks and how they are measured. None for all others. Raises
    LocationError for what is not there."""
    evaluation = trial.evaluation
    if (own := own_metric(evaluation.metric)) is not None:
        return {"file_sha256": _file_identity("evaluation.metric", own[0]), "function": own[1]}
    if not evaluation.chosen_by_harness:
        return None
    settings = (evaluation.harness or HarnessConfig()).model_dump(exclude=NO_MEASUREMENT)
    tasks = [_harness_identity(name) for name in evaluation.harness_tasks or ()]
    return {"name": evaluation.metric, "harness_tasks": tasks, **settings}


def adapter_contents(trial: TrialConfig) -> dict[str, Any]:
    """The part of `contents` that is an adapter that the trial begins with. Raises LocationError where it is not there,
    StoreError for a store that does not answer."""
    if trial.adapter is None or trial.adapter.existing is None:
        return {}
    check_revision(trial.adapter)
    name, ranks_alone = trial.adapter.existing, trial.adapter.rank_pattern_from is not None
    # A base model, an adapter and ranks may have the name of one repository.
    called = f"ranks of adapter {name}" if ranks_alone else f"adapter {name}"
    return {called: adapter_identity(name, ranks_alone=ranks_alone)}


def check_revision(adapter: AdapterConfig) -> None:
    """Raises LocationError for a revision of an adapter that is a folder here, whatever its name looks like."""
    if adapter.revision is not None and adapter.existing is not None and looks_local(adapter.existing):
        raise LocationError(
            f"adapter {adapter.existing!r} is here ({Path(adapter.existing).absolute()}) and not from the Hub: "
            f"revision {adapter.revision!r} has no effect on it; remove it"
        )


def data_contents(trial: TrialConfig) -> dict[str, Any]:
    """The part of `contents` that is this configuration's data. Raises LocationError for what does not exist."""
    found = {source.name: _identity(source.name) for source in trial.data.all_sources}
    if (template := template_file(trial.data)) is not None:
        found[str(template)] = _file_identity("data.chat_template", template)
    return found


def template_file(data: DataConfig) -> Path | None:
    """The file that the chat template lies in; None where it is the tokenizer's, or there is none."""
    given = data.chat_template
    return None if given in (None, "tokenizer", "none") else Path(str(given)).expanduser()


def _file_identity(field: str, path: Path) -> str:
    if not path.is_file():
        raise LocationError(f"{field}: file {str(path)!r} does not exist ({looked_for(str(path))})")
    return file_digest(path)


def model_location(name: str) -> str:
    """What `from_pretrained` takes: `package:<import name>/<folder>` as the folder's path, anything else as it is.

    Raises LocationError for a package that is not installed, a path that does not exist, or a name that is no folder
    and can be none on the Hub.
    """
    if name.startswith("package:"):
        package, _, folder = name.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise LocationError(f"model {name!r}: no package {package!r} is installed")
        path = Path(spec.submodule_search_locations[0]) / folder
        if not path.is_dir():
            raise LocationError(f"model {name!r}: package {package!r} has no folder {folder!r}")
        return str(path)
    if looks_local(name):
        path = Path(name).expanduser()
        if not path.exists():
            raise LocationError(f"{name!r} does not exist ({looked_for(name)})")
        return str(path.resolve())
    check_hub_name("model", name)
    return name


def check_hub_name(kind: str, name: str) -> None:
    """Raises LocationError for the name of a `kind` of thing that is no folder here and can be none on the Hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not in the module's __all__

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise LocationError(
            f"{kind} {name!r} is neither a folder here ({looked_for(name)}) nor a name on the Hub (name, or owner/name)"
            + ("; a place with :// cannot be read as one: fetch it into a folder" if "://" in name else "")
        ) from error


def looks_local(name: str) -> bool:
    """Whether a name means a path: it begins like one, or such a file or folder is here. Others are Hub names."""
    return name.startswith(("/", "./", "../", "~")) or Path(name).exists()


def _model_identity(name: str) -> Any:
    model_location(name)
    return _identity(name)


def _identity(name: str) -> Any:
    if name.startswith("package:"):
        package = name.removeprefix("package:").partition("/")[0]
        model_location(name)
        distributions = importlib.metadata.packages_distributions().get(package, [package])
        return {"name": name, "version": importlib.metadata.version(distributions[0])}
    if name.startswith("reasoning_gym:"):
        try:
            return {"name": name, "version": importlib.metadata.version("reasoning-gym")}
        except importlib.metadata.PackageNotFoundError as error:
            raise LocationError(f'{name!r} needs reasoning-gym: pip install "reasoning-gym==0.1.25"') from error
    if is_remote(name):
        return _remote_identity(name)
    if looks_local(name):
        path = Path(model_location(name))
        if path.is_file():
            return {_ending(path.name): file_digest(path)}
        return {p.relative_to(path).as_posix(): file_digest(p) for p in sorted(path.rglob("*")) if p.is_file()}
    return name


def _ending(name: str) -> str:
    """What of a file's name says how it is read: equal bytes are other rows in a csv than in a tsv."""
    return split_name(Path(name))[1] or "."


def _remote_identity(name: str) -> Any:
    """A file elsewhere counts as the same file here does: by its content. One on the Hub stands for itself, revision
    included, as other names there do, and is pinned to a commit as they are (pins.py)."""
    if hub_file(name) is not None:
        return name
    try:
        return {_ending(file_name(name)): file_digest(fetch(name))}
    except DataError as error:
        raise LocationError(str(error)) from error


def adapter_identity(name: str, *, ranks_alone: bool = False) -> Any:
    """An adapter that exists, by the content of its weights and configuration, and the order of its classes where it
    tells one; with `ranks_alone` by its ranks. A name on the Hub stands for itself, as models do, with the revision
    beside it.

    Raises LocationError for an adapter that is not there or, `ranks_alone`, does not tell its ranks.
    """
    if name.startswith(STORED):
        return _stored_identity(name, ranks_alone)
    if not looks_local(name):
        check_hub_name("adapter", name)
        return name
    folder = Path(name).expanduser()
    if ranks_alone:
        return {"ranks": ranks_digest(folder_ranks(folder))}
    config = _adapter_file(folder, ADAPTER_CONFIG).read_text("utf-8")
    labels = folder / ADAPTER_LABELS
    return {
        "weights": file_digest(_adapter_file(folder, *ADAPTER_WEIGHTS)),
        "config": _meaning(config, name),
        **({"labels": file_digest(labels)} if labels.is_file() else {}),
    }


def folder_ranks(folder: Path) -> dict[str, int]:
    """Full name of a layer in the base model → its rank, of the LoRA in a folder of PEFT's; by the weights' header.

    Raises LocationError for a folder that has none in safetensors, or also those of an embedding.
    """
    path = _adapter_file(folder, ADAPTER_WEIGHTS[0])
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length < MOST_HEADER else b""
    try:
        header = json.loads(text)
        ranks = {
            match["layer"]: int(entry["shape"][0])
            for key, entry in header.items()
            if (match := FACTOR.fullmatch(key)) is not None
        }
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LocationError(f"{path} is no file of safetensors, or a damaged one") from error
    embedding = next((key for key in header if ".lora_embedding_A" in key), None)
    if embedding is not None:
        raise LocationError(
            f"{path} adapts an embedding ({embedding!r}), which a fresh adapter does not: linear layers alone; take "
            "another adapter's ranks"
        )
    if not ranks:
        raise LocationError(f"{path} has no factors A of a LoRA, so it tells no ranks")
    return ranks


def _adapter_file(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise LocationError(f"adapter {str(folder)!r} has no {names[0]} ({looked_for(str(folder / names[0]))})")


def _stored_identity(name: str, ranks_alone: bool) -> dict[str, Any]:
    from prunedlora.results.analysis.find import UnknownCandidateError
    from prunedlora.results.analysis.named_adapter import find_adapter

    try:
        found = find_adapter(name)
        if ranks_alone:
            return {"ranks": ranks_digest(found.candidate.ranks)}
        path = f"{found.path}/{ADAPTER_CONFIG}"
    except UnknownCandidateError as error:
        raise LocationError(f"adapter {name!r}: {error}") from error
    sha256 = found.candidate.file_sha256
    if sha256 is None:
        raise LocationError(f"adapter {name!r}: its record is older than checksums; export it and name the folder")
    text = found.store.storage.read_text(path)
    if text is None:
        raise LocationError(f"adapter {name!r}: {found.store.storage.uri_of(path)} is gone")
    labels = found.record.environment.model.get("labels")
    return {"weights": sha256, "config": _meaning(text, name), **({} if labels is None else {"labels": labels})}


def _meaning(text: str, name: str) -> str:
    """Hash of what an adapter's configuration says of its weights: not of where its base model lay."""
    try:
        tree = json.loads(text)
        canonical = json.dumps({key: tree[key] for key in sorted(tree.keys() - NOT_MEANT)}, separators=(",", ":"))
    except (ValueError, AttributeError) as error:
        raise LocationError(f"adapter {name!r}: its {ADAPTER_CONFIG} is no JSON object") from error
    return hashlib.sha256(canonical.encode()).hexdigest()


def ranks_digest(ranks: Mapping[str, int]) -> str:
    """sha256 of the layers that have a rank, and their ranks."""
    present = {layer: ranks[layer] for layer in sorted(ranks) if ranks[layer] > 0}
    return hashlib.sha256(json.dumps(present, separators=(",", ":")).encode()).hexdigest()


def _harness_identity(name: str) -> dict[str, Any]:
    """Version of the harness, which its tasks are part of; for a path also name and content of every file."""
    try:
        identity: dict[str, Any] = {"lm-eval": importlib.metadata.version("lm-eval")}
    except importlib.metadata.PackageNotFoundError as error:
        raise LocationError(f"evaluation.harness_tasks {name!r} needs lm-eval: {HARNESS_EXTRA}") from error
    if not is_path(name):
        return identity | {"name": name}
    path = Path(name).expanduser()
    if not path.exists():
        raise LocationError(f"evaluation.harness_tasks: {name!r} does not exist ({looked_for(name)})")
    return identity | {"files": sorted([p.name, file_digest(p)] for p in task_files(path))}


def file_digest(path: Path) -> str:
    """sha256 of a file as it is now; a large file is not read again while its inode says that nothing wrote to it.

    The time of modification can be set and is not enough (`touch -r`, images whose files are all from one day); that of
    the last change to the inode cannot. A file that has just changed is read again next time as well: two writes within
    one tick of the file system's clock have the same time.
    """
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        state = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if state not in _DIGESTS:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time_ns() - stat.st_ctime_ns < SETTLED_AFTER_NS:
                return digest
            _DIGESTS[state] = digest
        return _DIGESTS[state]
