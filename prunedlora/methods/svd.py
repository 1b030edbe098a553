"""SVD truncation: train LoRA at a large rank, then cut B A down to each smaller rank, without further training.

Every adapter costs nothing but its evaluation: the free curve that a method which prunes while training must beat. It
is the oldest kind of free cuts (trial/cutter.py): basis svd, allocation uniform, each evaluated in full.
"""

from dataclasses import dataclass

from prunedlora.methods.method import Method
from prunedlora.registry import register


@dataclass(frozen=True)
class SvdSettings:
    ranks: list[int]
    """Ranks to cut to, falling."""


@register("method", "svd")
class Svd(Method):
    """A fixed-rank adapter; what follows its training is not the method's."""

    section = "svd"
    settings_type = SvdSettings
    settings: SvdSettings
