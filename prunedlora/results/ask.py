"""Ask: what the study wants tried next, written down before the trial is queued, so that the study can be rebuilt."""

from typing import Literal

from pydantic import Field

from prunedlora.results.record import Document, Json, Key


class Ask(Document):
    number: int = Field(ge=0, le=999_999)
    """Number of the trial in the study."""
    key: Key
    """Key of the trial's configuration; several asks may have one."""
    kind: Literal["search", "baseline"]
    params: dict[str, Json]
    """Parameter → proposed value, as Optuna has it outside."""
    distributions: dict[str, str]
    """Parameter → its distribution as JSON text by optuna.distributions.distribution_to_json."""
    system_attrs: dict[str, Json]
    """What the sampler remembers about the ask."""
