"""The entries of a search space: what a field of the trial may become.

    training.batch_size:    {choice: [8, 16, 32]}
    optimizer.learning_rate: {log_uniform: [1e-4, 1e-2]}
    pruning.schedule.begin: {uniform: [0.1, 0.3]}
    training.num_steps:     {int: [100, 400], step: 50}
    adapter.initial_rank:   {log_int: [4, 64]}
    pruning:                {value: null, when: {adapter.method: [lora]}}

`when` makes an entry conditional: it applies only while every field it names has one of the listed values.
`prior` is a value of the entry that is known to be good: the configuration of all priors is tried first.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import (
    Discriminator,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from prunedlora.config.section import Section

When = dict[str, Annotated[list[Any], Field(min_length=1)]]
"""Entry of the space → the values under which this one applies."""


class Searched(Section, ABC):
    """An entry that a search gives values to."""

    when: When = Field(default={})
    prior: Any = None
    """A value of the entry that is known to be good; left out: none is."""

    @property
    def has_prior(self) -> bool:
        """Whether one is given: null may be a value."""
        return "prior" in self.model_fields_set

    @abstractmethod
    def misfit(self, value: Any) -> str | None:
        """Why `value` is none of the entry's, as the end of a sentence that begins with it; None: it is one."""

    @model_validator(mode="after")
    def _prior_is_a_value(self) -> Self:
        if self.has_prior and (why := self.misfit(self.prior)):
            raise ValueError(f"prior {self.prior!r} {why}")
        return self

    @model_serializer(mode="wrap")
    def _without_unset_prior(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """None that was not written must not be read back as a prior of null."""
        written: dict[str, Any] = handler(self)
        if not self.has_prior:
            written.pop("prior", None)
        return written


class Choice(Searched):
    choice: list[Any] = Field(min_length=1)
    """Values to choose from; each may be any YAML value, null included."""

    def misfit(self, value: Any) -> str | None:
        """Not among the values."""
        same = [one for one in self.choice if one == value and isinstance(one, bool) == isinstance(value, bool)]
        return None if same else f"is none of {self.choice}"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(value in self.choice[:i] for i, value in enumerate(self.choice)):
            raise ValueError(f"choice lists a value twice: {self.choice}")
        return self

    def corners(self) -> list[Any]:
        """All values: categorical values are checked exhaustively."""
        return list(self.choice)


class Uniform(Searched):
    uniform: tuple[float, float]
    """Lowest and highest value, uniformly."""

    def misfit(self, value: Any) -> str | None:
        """Outside of the range, or no number."""
        return _misfit_of_range(value, *self.uniform)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        _check_rising("uniform", self.uniform)
        return self

    def corners(self) -> list[Any]:
        return list(self.uniform)

    def inner(self) -> Sequence[float]:
        """A value between the corners, which is no whole number."""
        low, high = self.uniform
        return [low + (high - low) / 3**0.5]


class LogUniform(Searched):
    log_uniform: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Lowest and highest value, uniformly in the logarithm."""

    def misfit(self, value: Any) -> str | None:
        """Outside of the range, or no number."""
        return _misfit_of_range(value, *self.log_uniform)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        _check_rising("log_uniform", self.log_uniform)
        return self

    def corners(self) -> list[Any]:
        return list(self.log_uniform)

    def inner(self) -> Sequence[float]:
        """A value between the corners, which is no whole number."""
        low, high = self.log_uniform
        return [low * (high / low) ** 3**-0.5]


class IntRange(Searched):
    bounds: tuple[int, int] = Field(alias="int")
    """Lowest and highest value, both included."""
    step: PositiveInt = 1
    """Distance between values, counted from the lowest."""

    def misfit(self, value: Any) -> str | None:
        """Outside of the range, or none of its whole numbers."""
        return _misfit_of_values(value, self.values())

    @model_validator(mode="after")
    def _rising(self) -> Self:
        low, high = self.bounds
        _check_rising("int", self.bounds)
        if (high - low) % self.step:
            raise ValueError(f"int: {high} is not reached from {low} in steps of {self.step}")
        return self

    def corners(self) -> list[Any]:
        return list(self.bounds)

    def inner(self) -> Sequence[int]:
        """All values between the corners."""
        return self.values()[1:-1]

    def values(self) -> range:
        """All values."""
        return range(self.bounds[0], self.bounds[1] + 1, self.step)


class LogInt(Searched):
    log_int: tuple[PositiveInt, PositiveInt]
    """Lowest and highest value, both included, uniformly in the logarithm."""

    def misfit(self, value: Any) -> str | None:
        """Outside of the range, or none of its whole numbers."""
        return _misfit_of_values(value, self.values())

    @model_validator(mode="after")
    def _rising(self) -> Self:
        _check_rising("log_int", self.log_int)
        return self

    def corners(self) -> list[Any]:
        return list(self.log_int)

    def inner(self) -> Sequence[int]:
        """All values between the corners."""
        return self.values()[1:-1]

    def values(self) -> range:
        """All values."""
        return range(self.log_int[0], self.log_int[1] + 1)


class Value(Section):
    value: Any
    """Not searched: set while `when` holds."""
    when: When = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _has_no_prior(cls, given: Any) -> Any:
        if isinstance(given, dict) and "prior" in given:
            raise ValueError(f"prior {given['prior']!r} has no effect on a value, which is not searched; remove it")
        return given

    def corners(self) -> list[Any]:
        return [self.value]


def _misfit_of_range(value: Any, low: float, high: float) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no number"
    return None if low <= value <= high else f"is outside of [{low:g}, {high:g}]"


def _misfit_of_values(value: Any, values: range) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return "is no whole number"
    if value in values:
        return None
    every = "" if values.step == 1 else f" in steps of {values.step}"
    return f"is none of {values[0]} to {values[-1]}{every}"


def _check_rising(kind: str, bounds: tuple[float, float]) -> None:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{kind}: lowest {bounds[0]:g} must lie below highest {bounds[1]:g}")


_KINDS = ("choice", "uniform", "log_uniform", "int", "log_int", "value")


def _kind_of(entry: Any) -> str | None:
    if isinstance(entry, dict):
        kinds = [kind for kind in _KINDS if kind in entry]
        return kinds[0] if len(kinds) == 1 else None
    kinds_of: dict[type, str] = dict(zip((Choice, Uniform, LogUniform, IntRange, LogInt, Value), _KINDS, strict=True))
    return kinds_of.get(type(entry))


SpaceEntry = Annotated[
    Annotated[Choice, Tag("choice")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[LogInt, Tag("log_int")]
    | Annotated[Value, Tag("value")],
    Discriminator(
        _kind_of,
        custom_error_type="space_entry",
        custom_error_message="an entry has exactly one of choice, uniform, log_uniform, int, log_int, value",
    ),
]
