"""Settings of the methods: one section each, given for the method that has it and for no other."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from prunedlora.config.schedule import AnySchedule, LadderConfig
from prunedlora.config.section import Progress, Section, registered
from prunedlora.pruning.ladder import Ladder
from prunedlora.registry import lookup


class FullConfig(Section):
    """Full fine-tuning: every weight of a copy of the base model trains; no adapter comes out of it."""

    head_modules: list[str] = Field(default=[])
    """Modules with the head's learning rate, counted beside the rest."""


class DropLoraConfig(Section):
    """Method droplora: dropout between the factors."""

    probability: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Share of the rank dimension that is dropped while training."""
    granularity: Literal["element", "rank"] = "element"
    """element: drawn anew for every token and component, by each worker for its own; rank: one draw per layer and step,
    shared by all tokens and workers."""


class L1raConfig(Section):
    """Method l1ra: gates under an L1 penalty move components between layers; the sum of all ranks stays."""

    gate_learning_rate: PositiveFloat = 1e-2
    """Of the gates; constant, without weight decay."""
    gate_penalty: PositiveFloat = 1.0
    """How far the penalty alone takes a gate down over the whole training (gates start at 1 and end at 0)."""
    threshold: float = Field(default=1e-2, gt=0.0, lt=1.0)
    """Gates below it lose their component at the next reallocation."""
    every: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of the training between two reallocations."""


class AdaLoraConfig(Section):
    """Method adalora, PEFT's own: singular triplets masked by sensitivity down to a budget."""

    target_rank: PositiveInt
    """Mean rank at the end, below adapter.initial_rank."""
    begin: Progress
    """Progress at which the budget begins to fall (PEFT's tinit)."""
    end: Progress
    """Progress at which it is reached (PEFT's total_step - tfinal)."""
    every_steps: PositiveInt = 1
    """Optimizer steps between two allocations (PEFT's deltaT)."""
    sensitivity_decay: float = Field(default=0.85, gt=0.0, lt=1.0)
    """Of the averaged sensitivity (beta1)."""
    uncertainty_decay: float = Field(default=0.85, gt=0.0, lt=1.0)
    """Of the averaged uncertainty (beta2)."""
    orthogonality: float = Field(default=0.5, ge=0.0)
    """Weight of the penalty that keeps A and B orthogonal."""

    @model_validator(mode="after")
    def _begin_before_end(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin {self.begin:g} must lie before end {self.end:g}")
        return self


class SvdConfig(Section):
    """Method svd: a LoRA adapter, truncated after its training to smaller ranks that cost nothing more."""

    ranks: list[PositiveInt] = Field(min_length=1)
    """Ranks to truncate to, falling, all below adapter.initial_rank."""

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if self.ranks != sorted(set(self.ranks), reverse=True):
            raise ValueError(f"ranks must fall: {self.ranks}")
        return self


class PruningConfig(Section):
    """Method prunedlora. A field whose default is None gets the value that its docstring names where it has an effect,
    and must stay unset where it has none. The measurements behind the advice are in jobs/results/README.md."""

    basis: Literal["raw", "svd", "whitened"] = "raw"
    """raw: components as they are trained. svd, whitened: an event first turns to the principal components of B A, by
    its norm or in the metric of the loss (methods.md 1.8), and drops the smallest; nothing is left to recover.
    Right after a large removal they cost no more than recovery, often less, least with allocation global; once training
    has gone on to the end they are level or behind. So raw stays the default (jobs/results/README.md: `pruning_*.json`,
    `accuracy_*.json`, notes)."""
    criterion: Annotated[str, registered("criterion")] | None = None
    """What goes first, in the raw basis: gradient."""
    curvature: Annotated[str, registered("curvature")] | None = None
    """What the gradient criterion scores by, and recovery compensates with: token."""
    ema_decay: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Decay per step of averaged statistics: 0.95. They are collected from as many steps before the first event on as
    count: what came earlier would have a share below a thousandth (0.95: 135 steps; pruning/observed_steps.py)."""
    damping: float | None = Field(default=None, gt=0.0, le=1.0)
    """Added to the diagonal of curvatures and moments, as a share of its mean: 0.01."""
    recovery_strength: float | None = Field(default=None, ge=0.0, le=1.0)
    """Share of the closed-form compensation that the survivors get at once: 0, plain removal. They learn the rest in
    the steps that follow: trained on, 0 does as well as 1 or better. Where nothing follows the last removal, take 1: a
    large one costs many times as much with 0 (jobs/results/README.md: `pruning_*.json`, `accuracy_small.json`,
    notes)."""
    recovery_side: Literal["A", "B", "both"] | None = None
    """The factor that is scored and compensated: B. both is the paper's sum, which compensates twice and overshoots at
    full strength: it is no better than no recovery there, or far worse. A is level with B or behind
    (jobs/results/README.md: `pruning_*.json`)."""
    gradient_cap: PositiveFloat | None = None
    """Criterion gradient in its full form: the step that the gradient adds, at most this share of the weights' norm;
    at recovery_strength 0 it is not made, and the gradient counts in the scores alone. None: the zero-gradient form."""
    moments: Literal["mapped", "reset"] | None = None
    """What becomes of the optimizer's moments when the basis changes (svd, whitened): mapped."""
    target_sparsity: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of the initial components to remove (allocation global_per_parameter: of their parameters); or give
    target_rank."""
    target_rank: int | None = Field(default=None, ge=1)
    """Rank to end at; allocation global: the mean rank; global_per_parameter: no more parameters than layers that all
    have this rank. Or give target_sparsity."""
    rate_growth: float = Field(default=0.5, ge=0.0, le=1.0)
    """Power of (initial rank / mean rank now) by which the adapter's learning rate is multiplied: 0 keeps it, 0.5 is as
    much as rsLoRA's scaling would grow. Large ranks want small rates, and what is left of them learns too slowly at
    those: growing it is ahead on a hard task and makes no difference on an easy one; more than 0.5 was worse. It wants
    lower rates to begin with: at rates that were chosen without it, it does harm (jobs/results/README.md:
    `accuracy_banking77.json`, `accuracy_spell_backward.json`, notes)."""
    schedule: AnySchedule
    """Towards one target, or down a ladder of sizes (name: ladder)."""
    allocation: Annotated[str, registered("allocation")] = "uniform"
    """Who loses components. uniform: every layer the same number. global: the cheapest of all layers, whatever their
    width. global_per_parameter: the cheapest per parameter, and the target counts parameters. Equal ranks are as good
    where every layer can have a few; where the budget is too small for that, take global_per_parameter with min_rank 0
    and a criterion that layers share, not magnitude: it was ahead of LoRAs of that size in every placement tried
    (jobs/results/README.md: `accuracy_placement.json`, `accuracy_small_placement.json`)."""
    min_rank: int = Field(default=1, ge=0)
    """Fewest components that a layer keeps; 0 lets a layer leave the adapter."""
    round_to: Annotated[int, Field(ge=2)] | Literal["served_slot"] | None = None
    """Ranks that fit hardware and servers: a multiple that all ranks keep to, or served_slot: the largest rank is one
    that vLLM offers (1, 8, 16, 32, …). None: any ranks."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.ladder is not None:
            given = [name for name in ("target_sparsity", "target_rank") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{given[0]} has no effect on schedule 'ladder': its rungs are the targets; remove it")
            return self
        if (self.target_sparsity is None) == (self.target_rank is None):
            raise ValueError("give exactly one of target_sparsity and target_rank")
        return self

    @model_validator(mode="after")
    def _settings_with_an_effect(self) -> Self:
        """Fills in what is unset, in place: it must not count as set, so that a space may choose the criterion."""
        criterion = self._resolve("criterion", "gradient", self.basis == "raw", f"basis {self.basis!r}")
        kind = None if criterion is None else lookup("criterion", criterion)
        models_loss, own = kind is not None and kind.models_loss, kind is not None and kind.own_curvature is not None
        who = f"basis {self.basis!r}" if kind is None else f"criterion {criterion!r}"
        strength = self._resolve("recovery_strength", 0.0, kind is not None, who)
        if kind is not None and not models_loss and not strength:
            who += " without recovery"
        has_curvature = models_loss or bool(strength)
        side = self._resolve("recovery_side", "B", has_curvature, who)
        if own and side != "B":
            raise ValueError(f"recovery_side {side!r} does not go with {who}, whose curvature is that of side B")
        self._resolve("curvature", "token", has_curvature and not own, who)
        damps = has_curvature or self.basis == "whitened"
        self._resolve("damping", 0.01, damps, who)
        self._resolve("ema_decay", 0.95, damps or (kind is not None and bool(kind.statistics)), who)
        if self.basis != "raw" and self.ladder is not None and self.ladder.forgets_moments:
            self._resolve("moments", "mapped", False, "a ladder whose rungs begin with a new optimizer state")
        else:
            self._resolve("moments", "mapped", self.basis != "raw", who)
        if self.gradient_cap is not None and (criterion != "gradient" or side == "both"):
            raise ValueError(f"gradient_cap goes with criterion 'gradient' on one side, not with {who}, side {side}")
        return self

    @property
    def ladder(self) -> LadderConfig | None:
        """The schedule, where it is a ladder."""
        return self.schedule if isinstance(self.schedule, LadderConfig) else None

    def _resolve(self, field: str, default: Any, has_effect: bool, who: str) -> Any:
        value = getattr(self, field)
        if not has_effect and value is not None:
            raise ValueError(f"{field} has no effect with {who}; remove it")
        if has_effect and value is None:
            self.__dict__[field] = value = default
        return value


def section_fields(section: Section) -> dict[str, Any]:
    """A section's values as the layers below take them: a schedule's beside the others, its name as `schedule`; a
    ladder as one value."""
    fields = section.model_dump()
    ladder = section.ladder if isinstance(section, PruningConfig) else None
    if ladder is not None:
        described = ladder.model_dump(exclude={"name", "rungs", "shares"})
        shares = None if ladder.shares is None else tuple(ladder.shares)
        sizes = tuple(ladder.rungs.sizes)
        fields["ladder"] = Ladder(unit=ladder.rungs.unit, sizes=sizes, shares=shares, **described)
        return fields | dict.fromkeys(("schedule", "begin", "end", "every_steps"))
    schedule = fields.pop("schedule", {})
    return fields | {"schedule" if name == "name" else name: value for name, value in schedule.items()}
