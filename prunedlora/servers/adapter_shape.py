"""What a server's rule looks at: an adapter without its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Self

from prunedlora.servers.absent_layers import absent_layers
from prunedlora.servers.served_slot import Widths


class Kind(StrEnum):
    """The forms in which an adapter can be handed over; a member's text is its name in files."""

    TRAINED = auto()
    """A PEFT folder of the ranks that were trained, in patterns where they differ."""
    UNIFORM = auto()
    """A PEFT folder of one rank, with no layer of an adapted type absent, filled up with zeros."""
    GGUF = auto()
    """A GGUF file of the ranks that were trained."""
    MERGED = auto()
    """The whole model with the adapter in its weights."""


class Base(StrEnum):
    """How the weights of the base model are kept where the adapter was trained."""

    PLAIN = auto()
    QUANTIZED = auto()
    GGUF = auto()


@dataclass(frozen=True)
class AdapterShape:
    """An adapter as a server gets it, in one of its forms."""

    kind: Kind
    ranks: Mapping[str, int]
    """Full module name in the base model → rank, above 0, of the layers that it has."""
    widths: Widths | None
    """(in, out) of every linear layer of the base model; None where they are not on record."""
    head_params: int = 0
    """Numbers in the modules that were trained whole and go with it."""
    model_type: str | None = None
    """Of the base model's configuration ("llama", "qwen2"); None where that is not known."""
    base: Base = Base.PLAIN
    is_classifier: bool = False
    """Whether the model gives classes and no text."""
    head_names: tuple[str, ...] = ()
    """Full names, or endings, of the modules that were trained whole; () where there are none, or they are not on
    record."""

    @property
    def rank(self) -> int:
        """The configuration's `r` and `lora_alpha`: the largest."""
        return max(self.ranks.values())

    @property
    def is_equal(self) -> bool:
        """Whether all layers that it has have one rank, so that its configuration has no patterns."""
        return len(set(self.ranks.values())) == 1

    @property
    def absent(self) -> Widths | None:
        """Layers of adapted types (and of what is fused with them) that it lacks; None where that is not on record."""
        return None if self.widths is None else absent_layers(self.ranks, self.widths)

    @property
    def num_params(self) -> int | None:
        """Numbers in all A and B; None where widths are not on record."""
        if self.widths is None:
            return None
        return sum(rank * sum(self.widths[name]) for name, rank in self.ranks.items())

    def uniform(self, rank: int | None = None) -> Self | None:
        """The same padded to one rank (None: its largest); None where widths are not on record."""
        absent = self.absent
        if absent is None:
            return None
        rank = self.rank if rank is None else rank
        return replace(self, kind=Kind.UNIFORM, ranks=dict.fromkeys([*self.ranks, *absent], rank))

    def of_kind(self, kind: Kind) -> Self:
        """The same ranks, handed over as GGUF or merged."""
        return replace(self, kind=kind)
