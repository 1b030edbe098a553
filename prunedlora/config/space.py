"""The entries of a search space: what a field of the trial may become.

    training.batch_size:    {choice: [8, 16, 32]}
    optimizer.learning_rate: {log_uniform: [1e-4, 1e-2]}
    pruning.schedule.begin: {uniform: [0.1, 0.3]}
    training.num_steps:     {int: [100, 400], step: 50}
    adapter.initial_rank:   {log_int: [4, 64]}
    pruning:                {value: null, when: {adapter.method: [lora]}}

`when` makes an entry conditional: it applies only while every field it names has one of the listed values.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from prunedlora.config.section import Section

When = dict[str, Annotated[list[Any], Field(min_length=1)]]
"""Entry of the space → the values under which this one applies."""


class Choice(Section):
    choice: list[Any] = Field(min_length=1)
    """Values to choose from; each may be any YAML value, null included."""
    when: When = Field(default={})

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(value in self.choice[:i] for i, value in enumerate(self.choice)):
            raise ValueError(f"choice lists a value twice: {self.choice}")
        return self

    def corners(self) -> list[Any]:
        """All values: categorical values are checked exhaustively."""
        return list(self.choice)


class Uniform(Section):
    uniform: tuple[float, float]
    """Lowest and highest value, uniformly."""
    when: When = Field(default={})

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


class LogUniform(Section):
    log_uniform: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Lowest and highest value, uniformly in the logarithm."""
    when: When = Field(default={})

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


class IntRange(Section):
    bounds: tuple[int, int] = Field(alias="int")
    """Lowest and highest value, both included."""
    step: PositiveInt = 1
    """Distance between values, counted from the lowest."""
    when: When = Field(default={})

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


class LogInt(Section):
    log_int: tuple[PositiveInt, PositiveInt]
    """Lowest and highest value, both included, uniformly in the logarithm."""
    when: When = Field(default={})

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

    def corners(self) -> list[Any]:
        return [self.value]


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
