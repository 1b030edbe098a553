"""Ask: what the study wants tried next, written down before the trial is queued, so that the study can be rebuilt.

And the plan that asks of kind confirm follow, written down before the first of them.
"""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from prunedlora.results.record import SCHEMA_VERSION, Document, Json, Key

TOO_LARGE: Final = "prunedlora:too_large"
"""System attribute of an ask none of whose candidates can keep the sweep's limits on sizes: nothing is run, and the
study is told that its settings are bad."""
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

    @property
    def is_too_large(self) -> bool:
        """Whether it was passed over, since it can keep no limit on sizes."""
        return TOO_LARGE in self.system_attrs


class ConfirmedSetting(Document):
    """A trial whose settings are trained again."""

    key: Key
    candidates: tuple[str, ...] = Field(min_length=1)
    """Names, within the trial, of the adapters that are in question."""
    fresh: tuple[Key, ...] = Field(min_length=1)
    """Keys of its trainings with the plan's seeds, in their order."""


class ConfirmationPlan(Document):
    """What is trained again with fresh seeds, to see whether adapters that were chosen are as good again; fixed before
    anything of it is trained, so that nothing in it can follow from what came out."""

    schema_version: Literal[2] = SCHEMA_VERSION
    number: int = Field(ge=0, le=999_999)
    names: tuple[str, ...]
    """What was asked for, as it was typed."""
    settings: tuple[ConfirmedSetting, ...] = Field(min_length=1)
    against: str | None
    """Name of the adapter that the others are compared with, one of them; None: there is one alone."""
    seeds: tuple[int, ...]
    """The same for all settings; none of them was trained with one of these before."""
    looks: tuple[int, ...] = Field(min_length=1)
    """After so many seeds it is looked whether it can be told, rising; the last: all of them. What is left to tell is
    trained up to the next. The looks share the error that `confidence` leaves."""
    within: float = Field(ge=0.0)
    """An adapter is confirmed that is at most so much worse than the one it is compared with."""
    confidence: float = Field(gt=0.5, lt=1.0)
    asked_by: str
    asked_at: str
    """In ISO 8601."""

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        if list(self.looks) != sorted(set(self.looks)) or not 0 < self.looks[0] <= self.looks[-1] == len(self.seeds):
            raise ValueError(f"looks {self.looks} do not rise to the {len(self.seeds)} seeds")
        if any(len(setting.fresh) != len(self.seeds) for setting in self.settings):
            raise ValueError(f"every setting needs a training for each of the {len(self.seeds)} seeds")
        names = self.candidates
        if len(set(names)) < len(names) or self.against not in (None, *names):
            raise ValueError(f"candidates {names} are named twice, or {self.against} is none of them")
        return self

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of all adapters in question, as `<key>@<candidate>`."""
        return tuple(f"{setting.key}@{name}" for setting in self.settings for name in setting.candidates)
