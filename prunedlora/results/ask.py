"""Ask: what the study wants tried next, written down before the trial is queued, so that the study can be rebuilt."""

from typing import Literal

from pydantic import Field

from prunedlora.results.record import SCHEMA_VERSION, Document, Json, Key

AskKind = Literal["search", "baseline", "confirm"]
"""search: what the sampler proposed, which counts as one of the sweep's `num_trials` and is told to it. baseline: a
trial that the sweep's file lists. confirm: the configuration of a trial before with another seed, to see whether a
candidate of it is as good again; no proposal of the sampler, so that it is neither counted nor told: the same point
told once more would count its settings twice, and that it was confirmed is no draw of chance."""


class Ask(Document):
    schema_version: Literal[2] = SCHEMA_VERSION
    number: int = Field(ge=0, le=999_999)
    """Number of the trial in the study."""
    key: Key
    """Key of the trial's configuration; several asks may have one."""
    kind: AskKind
    params: dict[str, Json]
    """Parameter → proposed value, as Optuna has it outside; empty unless it is a search."""
    distributions: dict[str, str]
    """Parameter → its distribution as JSON text by optuna.distributions.distribution_to_json."""
    system_attrs: dict[str, Json]
    """What the sampler remembers about the ask."""
