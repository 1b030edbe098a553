"""Pins: which commit a name on the Hub stands for in a sweep, so that all its trials train on the same files.

A branch moves. So the commits are looked up once, when a sweep begins (trial/commits.py), and kept in its store; what
loads, and what a record keeps, is the configuration with them in the place of the revisions. Keys are made of the
configuration as it was written.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from prunedlora.adapter_place import STORED
from prunedlora.config.identity import ADAPTER_CONFIG, looks_local
from prunedlora.config.source_section import SourceConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import AdapterConfig, ModelConfig
from prunedlora.tasks.file_formats import split_name
from prunedlora.tasks.remote_files import hub_file, is_remote

COMMIT = re.compile(r"[0-9a-f]{40}")
SPLITS = ("train", "validation", "test")


class HubName(NamedTuple):
    """Something on the Hub, as a configuration names it."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str | None
    """Branch or tag; None: the default branch."""
    file: str | None
    """A file that loading it takes, for models and for files of datasets."""

    @property
    def text(self) -> str:
        """What it is called in a store."""
        return f"{self.kind} {self.name}" + ("" if self.revision is None else f"@{self.revision}")


def hub_names(trials: Iterable[TrialConfig]) -> list[HubName]:
    """What these configurations name on the Hub by something else than a commit, each once."""
    found: dict[str, HubName] = {}
    for trial in trials:
        sections = [trial.model, trial.adapter, *trial.data.all_sources]
        for section in sections:
            if section is not None and (name := _hub_name(section)) is not None:
                found.setdefault(name.text, name)
    return list(found.values())


def pinned(trial: TrialConfig, commits: Mapping[str, str | None]) -> TrialConfig:
    """The configuration with the commits (HubName.text → 40 hex digits) that are known in the place of revisions."""

    def with_commit(section: Any) -> Any:
        name = None if section is None else _hub_name(section)
        commit = None if name is None else commits.get(name.text)
        if commit is None:
            return section
        on_hub = hub_file(section.name) if isinstance(section, SourceConfig) else None
        return section.model_copy(update={"revision": commit} if on_hub is None else {"name": on_hub.at(commit)})

    given = {split: getattr(trial.data, split) for split in SPLITS}
    sources = {
        split: [with_commit(source) for source in found] if isinstance(found, list) else with_commit(found)
        for split, found in given.items()
    }
    data = trial.data.model_copy(update=sources)
    return trial.model_copy(
        update={"model": with_commit(trial.model), "adapter": with_commit(trial.adapter), "data": data}
    )


def _hub_name(section: ModelConfig | AdapterConfig | SourceConfig) -> HubName | None:
    """None for what is not on the Hub, or named by a commit."""
    name, revision = section.existing if isinstance(section, AdapterConfig) else section.name, section.revision
    on_hub = None
    if isinstance(section, SourceConfig) and is_remote(section.name):
        if (on_hub := hub_file(section.name)) is None:
            return None
        name, revision = on_hub.repo, on_hub.revision
    elif name is None or name.startswith(("package:", "reasoning_gym:", STORED)) or looks_local(name):
        return None
    if revision is not None and COMMIT.fullmatch(revision):
        return None
    if isinstance(section, AdapterConfig):
        return HubName("model", name, revision, ADAPTER_CONFIG)
    if isinstance(section, ModelConfig):
        return HubName("model", name, revision, section.gguf_file or "config.json")
    if on_hub is not None:
        return HubName("dataset", name, revision, on_hub.path)
    # A file that is not there is said where data are read.
    return None if split_name(Path(name))[1] else HubName("dataset", name, revision, None)
