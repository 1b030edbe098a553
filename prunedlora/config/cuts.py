"""Free cuts: smaller adapters made of a trained one without training, each evaluated and kept as a candidate."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from prunedlora.config.schedule import SizesConfig
from prunedlora.config.section import Section, registered


class CutsConfig(Section):
    sizes: SizesConfig
    """What to cut to, each from the adapter as it was trained; those that are not below what is there are left out, or
    refused where that is certain before the training (trial/cut_sizes.py)."""
    bases: Annotated[list[Literal["svd", "whitened"]], Field(min_length=1)] = Field(default=["svd"])
    """The principal components of B A, by its norm (svd) or in the metric of the loss (whitened), of which the smallest
    go. Where the training loss is near zero the metric is noise, and svd is better (methods.md 1.9)."""
    allocations: Annotated[list[Annotated[str, registered("allocation")]], Field(min_length=1)] = Field(
        default=["global_per_parameter"]
    )
    """Who loses components."""
    min_rank: int = Field(default=0, ge=0)
    """Fewest components that a layer keeps."""
    at: Literal["end", "every_rung", "start"] = "end"
    """Of what is cut: the adapter at the end of the training; of a ladder that of every rung, its trunk included; or,
    of a ladder with trunk 0, the adapter that it starts from alone."""
    screen_examples: PositiveInt | None = 200
    """Validation examples (the first) on which every cut's loss is measured; only those cuts are evaluated on all of
    them that no smaller or equally large adapter of the training clearly beats there (a lower loss on the same examples
    by more than two standard errors of the difference). None: all cuts, on all examples."""
    calibration_examples: PositiveInt | None = None
    """Training examples that the metric of basis whitened is made of, the next of the order, in whole batches: 256, or
    all there are; without effect on svd alone."""
    damping: PositiveFloat | None = None
    """Added to the diagonal of that metric, as a share of its mean: 0.01; without effect on svd alone."""

    @model_validator(mode="after")
    def _settings_with_an_effect(self) -> Self:
        for name in ("bases", "allocations"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice: {', '.join(values)}")
        for name, default in (("calibration_examples", 256), ("damping", 0.01)):
            if "whitened" in self.bases and getattr(self, name) is None:
                self.__dict__[name] = default
            elif "whitened" not in self.bases and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect on cuts by svd alone; remove it")
        ranks = self.sizes.mean_rank or []
        if "uniform" in self.allocations and (broken := [rank for rank in ranks if not rank.is_integer()]):
            raise ValueError(
                f"sizes.mean_rank {broken[0]:g} needs an allocation over layers; with uniform every layer has one rank"
            )
        if ranks and ranks[-1] < self.min_rank:
            raise ValueError(f"sizes.mean_rank {ranks[-1]:g} is below min_rank {self.min_rank}")
        return self

    @property
    def num_cuts(self) -> int:
        """How many there are at most of one adapter."""
        return self.num_cuts_per_basis * len(self.bases)

    @property
    def num_cuts_per_basis(self) -> int:
        """How many of them are by one basis."""
        return len(self.sizes.sizes) * len(self.allocations)
