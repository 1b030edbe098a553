"""SweepConfig: one sweep file. What is fixed (`trial`), what varies (`space`), what for, on what, how long."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from prunedlora.config.baselines import LABEL, label_problems, without_label
from prunedlora.config.constraint_problems import constraint_problems
from prunedlora.config.corners import ask_order, corners
from prunedlora.config.given import given_first, known_problems
from prunedlora.config.mirror_url import AUTO, MirrorAddress
from prunedlora.config.section import Section
from prunedlora.config.space import SpaceEntry, Value
from prunedlora.config.stopping_section import StoppingConfig, stopping_problems
from prunedlora.config.sweep_problems import (
    baseline_field_problems,
    gpu_problems,
    space_field_problems,
    suggestion_problems,
)
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.metric_kinds import own_metric
from prunedlora.planned_size import PLANNED_AXES
from prunedlora.sizes import SIZES

SamplerName = Literal["gp", "nsga2", "random", "tpe", "tpe-joint"]
"""Those of study/samplers.py, listed here because checking a sweep must not import Optuna."""
LoggerName = Literal["mlflow", "tensorboard"]
ServerName = Literal["peft", "vllm", "sglang", "llama.cpp", "lorax", "tensorrt-llm", "mlx"]
"""Those of servers.known.SERVERS."""
Telling = Literal["last", "candidates", "area"]
"""How the study is told of a run with several candidates (study/telling.py)."""
SMALLEST_PART = 0.01
"""Of a GPU."""


class ResourcesConfig(Section):
    """What one slot holds for the whole sweep."""

    num_workers: PositiveInt = 1
    """Ray Train workers of a slot; each gets a shard of every batch, and draws what drops out of it by itself. A
    trial's key leaves it open: with dropout, other numbers of workers give another sample of the same training;
    without, the same one up to rounding."""
    cpus_per_worker: PositiveInt = 1
    """Threads of each worker too, which change how sums round, and no more."""
    gpus_per_worker: NonNegativeFloat = 0
    """0, 1, or a part of one GPU, 0.25 for four slots on each: small models leave most of a GPU idle."""
    num_slots: PositiveInt | None = None
    """Slots to run at once; None: as many as the cluster's resources allow, more when nodes come. A number is believed
    on a cluster: slots that find no place wait for an autoscaler's nodes, or for what others hold."""

    @model_validator(mode="after")
    def _gpus_can_be_shared(self) -> Self:
        gpus = self.gpus_per_worker
        if gpus > 1:
            raise ValueError(
                f"gpus_per_worker must be 0, 1 or a part of one GPU, got {gpus:g}: a worker trains on one GPU; "
                "for more of them raise num_workers, which share every batch"
            )
        if 0 < gpus < SMALLEST_PART:
            raise ValueError(f"gpus_per_worker must be 0 or at least {SMALLEST_PART:g}, got {gpus:g}")
        if 0 < gpus < 1 and self.num_workers > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g} with num_workers {self.num_workers}: NCCL refuses two workers of a slot "
                "on one GPU; share GPUs between slots of one worker, or give every worker a GPU"
            )
        return self


class RetentionConfig(Section):
    checkpoints: Literal["until_completed", "always"] = "until_completed"
    """Whether a completed trial's checkpoints are deleted."""
    checkpoint_every_steps: PositiveInt | None = None
    """Optimizer steps between checkpoints to resume from; None: not by steps."""
    checkpoint_every_seconds: PositiveFloat | None = 600
    """Seconds of training, evaluations included, after which a checkpoint is left besides; None: not by time. Whatever
    both say, one is left after every milestone, before the last evaluation, and when the sweep is paused. They are
    written beside the training, which waits only to copy what trains."""
    adapters: Literal["all", "front"] = "all"
    """front: after the sweep, adapters are deleted that no recommendation, at any margin and on any axis of size, can
    name (their figures stay): those of configurations that another beats for certain."""


class SweepConfig(Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    storage: str = Field(min_length=1)
    """Folder of the records and adapters: a local or shared path, or s3://…, gs://…"""
    objectives: dict[str, Literal["maximize", "minimize"]]
    """One quality figure of the metric (accuracy: maximize, or loss: minimize) and one size (minimize)."""
    constraints: dict[str, float] = Field(default={})
    """Size (adapter_params, adapter_bytes, max_rank or served_slot) → the most that is of use: an adapter above any of
    them is not recommended, and settings of which no candidate can meet them, by what is known of sizes before a
    training, are not trained. A store is bound to them."""
    serve_on: list[ServerName] = Field(default=[])
    """Servers that the adapter is for. Only adapters that all of them serve right are recommended, each in the smallest
    form that it needs, and sizes are those of the largest of these forms; none: sizes are those that were trained. It
    may change between runs of a store, and `prunedlora report --serve-on` asks for others."""
    sampler: SamplerName = "tpe"
    telling: Telling = "last"
    """What the sampler learns of a run: its last candidate, every candidate that none of the same run beats, or how
    good they are together over all sizes."""
    num_trials: NonNegativeInt
    """Trials that the search makes, besides the baselines; 0 (with an empty space) runs the baselines alone. A
    suggestion that had been tried counts as none: in a space of at most 10,000 configurations the nearest that is still
    untried is taken instead, until none is left; elsewhere the search is asked again, and ends after 20 such in a
    row."""
    max_seconds: PositiveFloat | None = None
    """End cleanly after this time: trials in flight keep a checkpoint and go on in the next run."""
    max_device_hours: PositiveFloat | None = None
    """End cleanly, as after `max_seconds`, when slots have been busy for so many hours, times the GPUs that a slot
    holds (parts of one as such; on CPUs its workers), over all runs of the sweep: what trainings took that are on
    record or have a checkpoint, and what slots do in this run. With a higher limit the same command goes on."""
    max_attempts: PositiveInt = 3
    """How often a trial is started, per run of the sweep, without getting as far as a new checkpoint: its worker died,
    or met trouble that is not the trial's own (another worker lost, a node, Ray, the storage). It goes on from its last
    checkpoint, and each new one gives it all its starts again: a long trial may be preempted as often as it likes. A
    node that cannot load the base model or the data, or ends it before its first step, has not started it."""
    recommend_within: float = Field(default=0.01, ge=0.0)
    """The recommended adapter is the smallest whose quality is at most this much worse than the best's."""
    seed: NonNegativeInt = 0
    """Seed of the sampler."""
    stopping: StoppingConfig | None = None
    """Whether trials of the search end early that others have left behind; None: none does."""
    resources: ResourcesConfig = ResourcesConfig()
    retention: RetentionConfig = RetentionConfig()
    mirror: MirrorAddress | None = AUTO
    """Optuna storage in which the study lies as well, so that optuna-dashboard shows it while it runs; nothing is
    decided by it. auto: the SQLite file optuna.db in a local store, nowhere for a store elsewhere. On NFS, where
    SQLite's locks may not hold, and on clusters: postgresql://USER@HOST/DATABASE or journal:PATH. No password here: it
    comes from PRUNEDLORA_MIRROR_PASSWORD, PGPASSWORD or ~/.pgpass. A sweep that searches nothing has no mirror."""
    loggers: list[LoggerName] = Field(default=[])
    """Where the curves of the trials are written as well, while they train."""
    trial: TrialConfig
    """The base: a complete trial; the space and the baselines replace some of its fields."""
    baselines: list[dict[str, Any]] = Field(default=[])
    """Fixed trials that stand beside the search, each given by the fields it replaces in the base, and a `label` of its
    own if the report is to call it by a name."""
    space: dict[str, SpaceEntry] = Field(default={})
    """Field path within `trial` → what it may become."""
    known: list[dict[str, Any]] = Field(default=[])
    """Configurations that are known to be good, tried first (after that of all `prior`s of the space): each gives
    entries of the space a value; others have their prior, or are drawn. They count among num_trials."""

    @model_validator(mode="after")
    def _objectives_are_recorded(self) -> Self:
        known = {
            self.trial.evaluation.figure: "maximize",
            "loss": "minimize",
            **dict.fromkeys(SIZES, "minimize"),
        }
        for name, direction in self.objectives.items():
            if (own := own_metric(name)) is not None:
                raise ValueError(f"objective {name!r}: figures of a function of one's own have its name: {own[1]}")
            if name not in known:
                raise ValueError(f"objective {name!r} is no recorded figure; known: {', '.join(sorted(known))}")
            if direction != known[name]:
                raise ValueError(f"objective {name!r} must be {known[name]}d, not {direction}d")
        if len(self.objectives) != 2 or sum(name in SIZES for name in self.objectives) != 1:
            raise ValueError(f"objectives must be one quality figure and one size, got {', '.join(self.objectives)}")
        if "loss" not in self.objectives and self.recommend_within >= 1:
            raise ValueError(
                f"recommend_within must be below 1, a difference in {self.quality}, got {self.recommend_within:g}; "
                "one point is 0.01"
            )
        return self

    @model_validator(mode="after")
    def _what_needs_a_gpu_has_one(self) -> Self:
        if problems := [] if self.resources.gpus_per_worker else gpu_problems(self.trial):
            raise ValueError("\n".join(f"trial.{problem}" for problem in problems))
        return self

    @model_validator(mode="after")
    def _space_names_fields(self) -> Self:
        problems = [
            *space_field_problems(self.space),
            *baseline_field_problems(self.baselines),
            *label_problems(self.baselines),
        ]
        searched = any(not isinstance(entry, Value) for entry in self.space.values())
        if self.num_trials > 0 and not searched:
            problems.append("space: nothing is searched; give a choice, uniform, log_uniform, int or log_int")
        if self.num_trials == 0 and (self.space or not self.baselines):
            problems.append("num_trials 0 runs the baselines alone: it needs some, and an empty space")
        problems += constraint_problems(self.constraints)
        if problems:
            raise ValueError("\n".join(problems))
        ask_order(self.space)
        return self

    @model_validator(mode="after")
    def _names_are_different(self) -> Self:
        named: dict[str, list[str]] = {"loggers": [*self.loggers], "serve_on": [*self.serve_on]}
        for field, names in named.items():
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{field} names {twice[0]!r} twice: remove one")
        return self

    @model_validator(mode="after")
    def _begins_with_what_is_given(self) -> Self:
        problems = known_problems(self.space, self.known)
        if self.num_trials < (num_given := len(given_first(self.space, self.known))):
            what = f"{len(self.known)} known configuration{'' if len(self.known) == 1 else 's'}" + (
                " and the priors" if num_given > len(self.known) else ""
            )
            problems.append(f"num_trials {self.num_trials} is below the {num_given} that are tried first: {what}")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _every_suggestion_is_valid(self) -> Self:
        if problems := suggestion_problems(
            self.trial,
            self.space,
            self.baselines,
            self.quality,
            has_gpu=self.resources.gpus_per_worker > 0,
            known=self.known,
        ):
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _stopping_has_something_to_look_at(self) -> Self:
        trials = (trial_with(self.trial, values) for values in corners(self.space))
        if problems := stopping_problems(self.stopping, self.size, self.num_trials, trials):
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _area_has_sizes(self) -> Self:
        if self.telling == "area" and self.size not in PLANNED_AXES:
            raise ValueError(
                f"telling 'area' takes sizes that are known before training, and {self.size!r} is not: take telling "
                f"'candidates', or one of {', '.join(PLANNED_AXES)} as objective"
            )
        return self

    @property
    def quality(self) -> str:
        """The objective that is no size."""
        (name,) = (name for name in self.objectives if name not in SIZES)
        return name

    @property
    def size(self) -> str:
        """The objective that is one."""
        (name,) = (name for name in self.objectives if name in SIZES)
        return name

    def baseline_trials(self) -> list[TrialConfig]:
        """The baselines, resolved."""
        return [trial_with(self.trial, without_label(baseline)) for baseline in self.baselines]

    def baseline_labels(self) -> list[str | None]:
        """What the report calls the baselines, in their order; None: by their method."""
        return [baseline.get(LABEL) for baseline in self.baselines]
