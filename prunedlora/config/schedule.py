"""When a pruning run removes what: towards one target, or down a ladder of sizes."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from prunedlora.config.section import Progress, Section, registered
from prunedlora.registry import lookup, names

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def _known(name: str) -> str:
    if name not in (known := names("schedule")):
        raise ValueError(f"unknown schedule {name!r}; known: {', '.join([*known, 'ladder'])}")
    return name


class ScheduleConfig(Section):
    name: Annotated[str, AfterValidator(_known)] = "cubic"
    begin: Progress
    """Progress at which removal begins."""
    end: Progress | None = None
    """Progress at which the target is reached; None for schedules that do all at begin."""
    every_steps: PositiveInt
    """Optimizer steps from one pruning event to the next."""

    @model_validator(mode="after")
    def _begin_before_end(self) -> Self:
        if lookup("schedule", self.name).needs_end:
            if self.end is None:
                raise ValueError(f"schedule {self.name!r} needs end")
            if self.begin >= self.end:
                raise ValueError(f"begin {self.begin:g} must lie before end {self.end:g}")
        elif self.end is not None:
            raise ValueError(f"end has no effect on schedule {self.name!r}; remove it")
        return self


class SizesConfig(Section):
    """Falling sizes of an adapter, in one unit: exactly one of the fields is given."""

    parameters: list[PositiveInt] | None = Field(default=None, min_length=1)
    """Numbers in A and B of all layers: never more, and fewer by less than the last component removed."""
    mean_rank: list[PositiveFloat] | None = Field(default=None, min_length=1)
    """Components per layer, on average; with allocation global_per_parameter as many parameters as layers that all have
    this rank. Fractions need an allocation over layers."""
    kept: list[Share] | None = Field(default=None, min_length=1)
    """Shares of what there is at the start that stay (parameters, where the allocation counts those); rounded down."""

    @model_validator(mode="before")
    @classmethod
    def _with_their_unit(cls, given: Any) -> Any:
        if isinstance(given, dict | cls):
            return given
        ways = {unit: f"{{{unit}: […]}}" for unit in ("kept", "parameters", "mean_rank")}
        if isinstance(given, list) and all(isinstance(size, int | float) for size in given):
            likely = "kept" if all(0 < size < 1 for size in given) else "mean_rank"
            ways = {likely: f"{{{likely}: {given}}}"} | {unit: way for unit, way in ways.items() if unit != likely}
        *some, last = ways.values()
        raise ValueError(f"sizes are in a unit: write {', '.join(some)} or {last}, not {given!r}")

    @model_validator(mode="after")
    def _one_falling_unit(self) -> Self:
        given = [unit for unit in ("parameters", "mean_rank", "kept") if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of parameters, mean_rank and kept, not {' and '.join(given) or 'none'}")
        sizes = self.sizes
        if any(after >= before for before, after in pairwise(sizes)):
            raise ValueError(f"{given[0]} must fall: {sizes}")
        return self

    @property
    def unit(self) -> Literal["parameters", "mean_rank", "kept"]:
        """The field that is given."""
        return "parameters" if self.parameters is not None else "mean_rank" if self.mean_rank is not None else "kept"

    @property
    def sizes(self) -> list[int] | list[float]:
        """Its values."""
        found: list[int] | list[float] = getattr(self, self.unit)
        return found


class LadderConfig(Section):
    """Schedule ladder: one training passes a falling row of sizes, and leaves a candidate at each (search.md 1). First
    a trunk is trained; then at each rung components go, what is left is trained on, and a candidate is made. A field
    whose default is None gets the value that its docstring names where it has an effect, and must stay unset where it
    has none."""

    name: Literal["ladder"]
    rungs: SizesConfig
    """The sizes after the trunk's, falling."""
    trunk: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Share of the steps before the first removal. 0, for an adapter that exists (adapter.start_from): it is the trunk
    as it is, evaluated before the first step; rung 1 begins there. With rate restart optimizer.warmup, the trunk's, is
    then without effect."""
    shares: list[PositiveFloat] | None = None
    """How the steps after the trunk are shared among the rungs, one number each; None: equally."""
    removal: Annotated[str, registered("schedule")] = "one_shot"
    """How a rung's components go: one_shot all at its begin; the others in events over its first steps."""
    removal_end: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Share of a rung's steps by which its components are gone: 0.5; without effect on one_shot."""
    every_steps: PositiveInt | None = None
    """Optimizer steps from one event to the next: 10; without effect on one_shot."""
    rate: Literal["restart", "continue", "branch"] = "restart"
    """Learning rate. restart: trunk and rungs each have a warm-up and a decay of their own. continue: one for the whole
    training. branch: constant after the warm-up, which lies in the trunk, or in rung 1 where there is none; at each
    rung's end a short branch decays to 0, its adapter is the candidate, and the training goes on from where the branch
    began."""
    rung_rate: PositiveFloat | None = None
    """Peak rate at the rungs as a share of optimizer.learning_rate, before rate_growth: 1; only with restart."""
    warmup: Progress | None = None
    """Share of a rung's steps in which its rate rises: 0.1; only with restart."""
    branch: Share | None = None
    """Share of the steps of trunk and rungs that are their branches': 0.2; only with branch."""
    optimizer_state: Literal["kept", "new"] | None = None
    """The optimizer's moments at a rung's begin: new with restart, kept otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _what_a_ladder_makes_meaningless(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("name") != "ladder":
            own = _own_of_ladders(given)
            written = f"the name is {given['name']!r}" if "name" in given else "there is no name"
            raise ValueError(f"{own[0]} is a ladder's, but {written}: write name: ladder, or remove {', '.join(own)}")
        useless = [name for name in ("begin", "end") if name in given]
        if useless:
            has, it = ("has", "it") if len(useless) == 1 else ("have", "them")
            raise ValueError(
                f"{' and '.join(useless)} {has} no effect on schedule 'ladder', whose trunk and rungs say when; "
                f"remove {it}"
            )
        return given

    @model_validator(mode="after")
    def _settings_with_an_effect(self) -> Self:
        """Fills in what is unset, in place: it must not count as set, so that a space may choose the rate."""
        if self.shares is not None and len(self.shares) != len(self.rungs.sizes):
            raise ValueError(f"shares has {len(self.shares)} numbers for {len(self.rungs.sizes)} rungs")
        in_events, who = self.removal != "one_shot", f"removal {self.removal!r}"
        self._resolve("removal_end", 0.5, in_events, who)
        self._resolve("every_steps", 10, in_events, who)
        who = f"rate {self.rate!r}"
        self._resolve("rung_rate", 1.0, self.rate == "restart", who)
        self._resolve("warmup", 0.1, self.rate == "restart", who)
        self._resolve("branch", 0.2, self.rate == "branch", who)
        self._resolve("optimizer_state", "new" if self.rate == "restart" else "kept", True, who)
        return self

    @property
    def forgets_moments(self) -> bool:
        """Whether no removal finds moments that it could carry over."""
        return self.removal == "one_shot" and self.optimizer_state == "new"

    def _resolve(self, field: str, default: Any, has_effect: bool, who: str) -> None:
        value = getattr(self, field)
        if not has_effect and value is not None:
            raise ValueError(f"{field} has no effect on a ladder with {who}; remove it")
        if has_effect and value is None:
            self.__dict__[field] = default


def _own_of_ladders(given: dict[str, Any]) -> list[str]:
    """The given fields that no other schedule has."""
    return [name for name in given if name in LadderConfig.model_fields and name not in ScheduleConfig.model_fields]


def _kind_of(schedule: Any) -> str:
    if not isinstance(schedule, dict):
        return "ladder" if isinstance(schedule, LadderConfig) else "schedule"
    return "ladder" if schedule.get("name") == "ladder" or _own_of_ladders(schedule) else "schedule"


AnySchedule = Annotated[
    Annotated[ScheduleConfig, Tag("schedule")] | Annotated[LadderConfig, Tag("ladder")], Discriminator(_kind_of)
]
