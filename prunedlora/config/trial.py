"""TrialConfig: everything that determines the result of one training run.

Two trials with equal TrialConfigs give the same adapter; where a run keeps its files and on which machines it runs is
in SweepConfig. A field that would lose its effect under another field's value is refused, never ignored.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from prunedlora.config.cuts import CutsConfig
from prunedlora.config.data_section import DataConfig
from prunedlora.config.evaluation_section import EvaluationConfig
from prunedlora.config.fields import with_values
from prunedlora.config.harness_metric import NEEDS_CAUSAL, harness_objective_problems
from prunedlora.config.methods import (
    AdaLoraConfig,
    DropLoraConfig,
    FullConfig,
    L1raConfig,
    PruningConfig,
    SvdConfig,
    section_fields,
)
from prunedlora.config.metric_names import taken_names
from prunedlora.config.schedule import SizesConfig
from prunedlora.config.section import Section
from prunedlora.config.start_problems import trunk_problems, untrained_problems
from prunedlora.config.trial_sections import AdapterConfig, ModelConfig, OptimizerConfig, TrainingConfig
from prunedlora.metric_kinds import has_metric, is_generating, own_metric
from prunedlora.pruning.goals import falling_goals
from prunedlora.pruning.target import MinRankError, Start, targets_of
from prunedlora.registry import lookup

MANY_LAYERS = 10**6
NO_CUTS = {
    "adalora": "whose singular triplets are no pair of factors",
    "svd": "which makes cuts of its own (svd.ranks): take method lora for others",
}
"""Methods with an adapter that cannot be asked for cuts, and why."""
METHOD_SECTIONS = ("pruning", "droplora", "l1ra", "adalora", "svd")
"""Sections that belong to methods: each is given for those that have it, and for no other."""


class TrialConfig(Section):
    model: ModelConfig
    data: DataConfig
    adapter: AdapterConfig | None = None
    full: FullConfig | None = None
    """Instead of an adapter: full fine-tuning."""
    pruning: PruningConfig | None = None
    droplora: DropLoraConfig | None = None
    l1ra: L1raConfig | None = None
    adalora: AdaLoraConfig | None = None
    svd: SvdConfig | None = None
    cuts: CutsConfig | None = None
    """Free cuts of what has been trained; for every method with an adapter. None: there are none."""
    optimizer: OptimizerConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, data order and dropout."""

    @property
    def method(self) -> str:
        """Name of the method in the registry."""
        return "full" if self.adapter is None else self.adapter.method

    @property
    def free_cuts(self) -> CutsConfig | None:
        """The cuts that its candidates are cut by: those of `cuts`, or of method svd."""
        if self.svd is None:
            return self.cuts
        sizes = SizesConfig(mean_rank=list(map(float, self.svd.ranks)))
        return CutsConfig(sizes=sizes, bases=["svd"], allocations=["uniform"], screen_examples=None)

    @property
    def head_modules(self) -> list[str]:
        """Modules trained whole with the head's learning rate."""
        return (self.adapter or self.full or FullConfig()).head_modules

    @property
    def generate(self) -> Literal["all", "may_matter"] | None:
        """For which candidates answers are generated (evaluation.generate); None: the metric is made of none."""
        if not is_generating(lookup("task", self.data.task), self.evaluation.metric):
            return None
        has_ladder = self.pruning is not None and self.pruning.ladder is not None
        return self.evaluation.generate or ("may_matter" if has_ladder or self.cuts is not None else "all")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        problems = [
            *self._method_problems(),
            *self._cuts_problems(),
            *self._start_problems(),
            *self._evaluation_problems(),
            *self._length_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _method_problems(self) -> list[str]:
        problems = []
        if self.adapter is not None and (self.adapter.method == "full" or self.full is not None):
            return ["full fine-tuning has no adapter: give the section full and set adapter to null"]
        if self.adapter is None and self.full is None:
            return ["give an adapter section, or the section full for full fine-tuning"]
        kind = lookup("method", self.method)
        for name in METHOD_SECTIONS:
            is_given = getattr(self, name) is not None
            if is_given and kind.section != name:
                problems.append(f"the {name} section has no effect on method {self.method!r}; set {name} to null")
            elif not is_given and kind.section == name:
                problems.append(f"method {self.method!r} needs {'an' if name[0] in 'aeiou' else 'a'} {name} section")
        if self.adapter is not None:
            problems += self._adapter_problems(self.adapter)
        elif self.model.quantization is not None:
            problems.append(f"full fine-tuning cannot train {self.model.quantization} weights; remove quantization")
        if bool(self.head_modules) != (self.optimizer.head_learning_rate is not None):
            section = "full" if self.adapter is None else "adapter"
            problems.append(f"{section}.head_modules and optimizer.head_learning_rate must be given together")
        return problems

    def _adapter_problems(self, adapter: AdapterConfig) -> list[str]:
        problems = []
        rank = adapter.initial_rank
        if adapter.existing is not None and not lookup("method", adapter.method).takes_unequal_ranks:
            place = "start_from" if adapter.start_from is not None else "rank_pattern_from"
            problems.append(
                f"adapter.{place}: method {adapter.method!r} begins with one rank in all layers and parameters of its "
                "own; take lora, droplora, svd or prunedlora"
            )
        if adapter.method == "rslora" and adapter.start_from is not None:
            problems.append("method 'rslora' has no effect on the scaling of adapter.start_from: take method lora")
        elif adapter.method == "rslora" and not adapter.use_rslora:
            problems.append("method 'rslora' is lora with adapter.use_rslora: set it to true")
        if adapter.method == "adalora" and adapter.use_rslora:
            problems.append("adapter.use_rslora has no effect on method 'adalora'; set it to false")
        if self.pruning is not None:
            problems += self._pruning_problems(self.pruning, rank)
        if rank is None:  # the adapter has its ranks, which are looked at where it is loaded
            return problems
        if self.svd is not None and self.svd.ranks[0] >= rank:
            problems.append(f"svd.ranks {self.svd.ranks} must lie below adapter.initial_rank {rank}")
        if self.adalora is not None and self.adalora.target_rank >= rank:
            problems.append(f"adalora.target_rank {self.adalora.target_rank} must be below adapter.initial_rank {rank}")
        return problems

    def _start_problems(self) -> list[str]:
        """Of what is done with an adapter that exists before it is trained."""
        problems = trunk_problems(self.adapter, self.pruning, self.cuts)
        if self.training.num_steps == 0:
            problems += untrained_problems(self.adapter, self.cuts, self.evaluation)
        return problems

    def _cuts_problems(self) -> list[str]:
        cuts = self.cuts
        if cuts is None:
            return []
        if self.adapter is None:
            return ["full fine-tuning has no adapter that cuts could be made of; set cuts to null"]
        if self.method in NO_CUTS:
            return [f"cuts does not go with method {self.method!r}, {NO_CUTS[self.method]}; set cuts to null"]
        problems = []
        if cuts.at == "every_rung" and (self.pruning is None or self.pruning.ladder is None):
            problems.append("cuts.at 'every_rung' needs pruning.schedule 'ladder'; set it to end, or cuts to null")
        if cuts.sizes.mean_rank is not None:
            largest, rank = cuts.sizes.mean_rank[0], self.adapter.initial_rank
            if rank is not None and largest >= rank:
                problems.append(f"cuts.sizes.mean_rank {largest:g} must lie below adapter.initial_rank {rank}")
        return problems

    def _pruning_problems(self, pruning: PruningConfig, rank: int | None) -> list[str]:
        """What is wrong whatever the model; `rank` None: that of an adapter that exists, which is not known here."""
        if pruning.ladder is not None and self.evaluation.milestones:
            return ["evaluation.milestones has no effect on schedule 'ladder': its rungs are evaluated; remove it"]
        if pruning.ladder is not None and pruning.ladder.rate == "branch" and self.optimizer.decay == "constant":
            return ["optimizer.decay 'constant' leaves a ladder's branches without a decay; take linear or cosine"]
        if rank is None:
            return []
        if pruning.target_rank is not None and pruning.target_rank > rank:
            return [f"pruning.target_rank {pruning.target_rank} is above adapter.initial_rank {rank}"]
        if pruning.min_rank > rank:
            return [f"pruning.min_rank {pruning.min_rank} is above adapter.initial_rank {rank}"]
        ladder = section_fields(pruning).get("ladder")
        if ladder is not None and ladder.unit == "parameters":
            return []  # how many there are is known with the model
        # For very many layers: what `global` may remove of all must be allowed whatever their number.
        many = Start({(rank, 1): MANY_LAYERS})
        sparsity, target_rank = pruning.target_sparsity, pruning.target_rank
        try:
            targets = targets_of(ladder, sparsity, target_rank, pruning.min_rank, pruning.round_to)
            falling_goals(lookup("allocation", pruning.allocation).goal, many, targets)
        except MinRankError as error:
            if pruning.ladder is not None:
                return [f"pruning: {error}"]
            kept = rank * (1 - (sparsity or 0.0)) if target_rank is None else target_rank
            return [f"pruning.min_rank {pruning.min_rank} forbids the target: rank {kept:g} on average"]
        except ValueError as error:
            return [f"pruning: {error}"]
        return []

    def _evaluation_problems(self) -> list[str]:
        task, metric = lookup("task", self.data.task), self.evaluation.metric
        if self.evaluation.chosen_by_harness:
            return harness_objective_problems(self.evaluation, self.data.task, task.auto_model)
        if not has_metric(task, metric):
            return [
                f"evaluation.metric {metric!r} is unknown to task {self.data.task!r}; known: "
                f"{', '.join(task.metrics)}, or a function of your own, path/to/metrics.py:function"
            ]
        if own_metric(metric) is not None and self.evaluation.figure in taken_names():
            return [
                f"evaluation.metric {metric!r}: {self.evaluation.figure!r} is a figure, a size or a column of results "
                "that is there already; call the function by another name"
            ]
        if self.evaluation.harness_tasks and task.auto_model != "AutoModelForCausalLM":
            return [f"evaluation.harness_tasks {NEEDS_CAUSAL.format(self.data.task)}"]
        generates = is_generating(task, metric)
        if generates != (self.evaluation.max_new_tokens is not None):
            return [f"evaluation.max_new_tokens is {'needed' if generates else 'without effect'} for metric {metric!r}"]
        if self.evaluation.stop is not None and not generates:
            return [f"evaluation.stop is without effect for metric {metric!r}, which generates no answers; remove it"]
        if self.evaluation.generate is not None and not generates:
            return [
                f"evaluation.generate is without effect for metric {metric!r}, which generates no answers; remove it"
            ]
        return []

    def _length_problems(self) -> list[str]:
        problems = []
        training = self.training
        if training.micro_batch_size is not None and training.micro_batch_size > training.batch_size:
            problems.append(
                f"training.micro_batch_size {training.micro_batch_size} is above batch_size {training.batch_size}"
            )
        return problems


def trial_with(base: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """The base with some fields replaced, validated. Raises pydantic.ValidationError, ListPathError."""
    # What the base leaves open stays open: a field that another value needs, or forbids, is resolved with it.
    return TrialConfig.model_validate(with_values(base.model_dump(exclude_unset=True), values))
