"""How far an adapter's update moves when it is cut, from its own files alone: no model, no data.

What a layer loses is known exactly: the update s B A without its smallest singular values σ is ‖σ behind the kept‖ away
(Eckart-Young). Which ranks are kept is what a trial's cut by basis svd keeps (pruning/cut.py). How much a task depends
on what goes is nothing that the weights tell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from prunedlora.adapters.existing import ExistingAdapter
from prunedlora.adapters.file_layers import AdapterSizes, FileLayer, read_factors
from prunedlora.adapters.update_spectrum import singular_values
from prunedlora.config.schedule import SizesConfig
from prunedlora.pruning.cut import Decomposed, Factors, decompose, ranks_left
from prunedlora.pruning.ladder import SizeUnit
from prunedlora.pruning.target import Start, Target
from prunedlora.results.record import Cut

ALLOCATIONS = ("uniform", "global_per_parameter")


class NothingToCutError(ValueError):
    """A size that no allocation can cut this adapter to; the message says which would do."""


@dataclass(frozen=True)
class LayerSpectrum:
    """What one layer's update is made of."""

    name: str
    rank: int
    params: int
    norm: float
    """‖s B A‖_F"""
    largest: float
    """Its largest singular value."""
    rank_90: int
    """Components that hold 90 % of the squared norm; 0 where the update is zero."""
    rank_99: int


@dataclass(frozen=True)
class BlindCut:
    """The adapter cut to one size by one allocation."""

    cut: Cut
    ranks: tuple[int, ...]
    """Of all layers."""
    params: int
    """Numbers in A and B."""
    bytes: int
    """Of A and B, in the types of the adapter's file."""
    change: float
    """‖ΔW − ΔW'‖_F / ‖ΔW‖_F over all layers together."""
    changes: tuple[float | None, ...]
    """The same of each layer; None where its update is zero."""

    @property
    def num_vanished(self) -> int:
        """Layers of which nothing is left."""
        return self.ranks.count(0)


@dataclass(frozen=True)
class LeftOut:
    """A size that one of the allocations cannot make."""

    cut: Cut
    reason: str


@dataclass(frozen=True)
class BlindReport:
    """Of one adapter."""

    name: str
    folder: Path
    base_name: str | None
    """What its configuration calls its base model."""
    layers: tuple[LayerSpectrum, ...]
    params: int
    bytes: int
    heads: dict[str, int]
    """Tensors of modules that are trained whole, which no cut touches → numbers in each."""
    beside: dict[str, int]
    """Tensors that are neither factors nor heads, likewise (file_layers.AdapterSizes)."""
    unit: SizeUnit
    min_rank: int
    """Fewest components that a layer keeps."""
    cuts: tuple[BlindCut, ...]
    """By size, then by allocation."""
    left_out: tuple[LeftOut, ...]


def describe_shrink(existing: ExistingAdapter, sizes: SizesConfig, min_rank: int = 0) -> BlindReport:
    """What cuts to these sizes do to the adapter's update, shared over all layers by parameters and at one rank.

    Layers are told as their file holds them: those that a task does not reach, which a trial leaves out, are among
    them. Raises ExistingAdapterError for an adapter that is no plain LoRA of linear layers, is damaged, or is zero;
    NothingToCutError for a size that takes nothing or cannot be.
    """
    held, factors, _ = read_factors(existing)
    spectra = [singular_values(pair, abs(layer.scaling)) for layer, pair in zip(held.layers, factors, strict=True)]
    found = decomposed(held, factors)
    cuts, left_out = [], []
    for size in sizes.sizes:
        refused = []
        for allocation in ALLOCATIONS:
            cut = Cut(basis="svd", allocation=allocation, unit=sizes.unit, size=size)
            try:
                ranks = ranks_of(cut, held, found, min_rank)
            except ValueError as error:
                refused.append(LeftOut(cut, str(error)))
            else:
                cuts.append(_blind_cut(cut, ranks, held.layers, spectra))
        if len(refused) == len(ALLOCATIONS):
            raise NothingToCutError(f"adapter {existing.name!r}: {refused[-1].reason}")
        left_out += refused
    return BlindReport(
        name=existing.name,
        folder=existing.folder,
        base_name=held.config.base_model_name_or_path,
        layers=tuple(_spectrum(layer, sigma) for layer, sigma in zip(held.layers, spectra, strict=True)),
        params=held.params,
        bytes=sum(layer.bytes_at(layer.rank) for layer in held.layers),
        heads=dict(held.heads),
        beside=dict(held.beside),
        unit=sizes.unit,
        min_rank=min_rank,
        cuts=tuple(cuts),
        left_out=tuple(left_out),
    )


def decomposed(held: AdapterSizes, factors: Sequence[Factors]) -> Decomposed:
    """The adapter in the basis that a trial's cut by basis svd has."""
    return decompose(factors, [layer.scaling for layer in held.layers], None, None)


def ranks_of(cut: Cut, held: AdapterSizes, found: Decomposed, min_rank: int) -> tuple[int, ...]:
    """Rank of every layer after the cut. Raises ValueError for a size that cannot be."""
    start = Start.of_layers(held.layers)
    return tuple(ranks_left(found, Target(cut.unit, cut.size, min_rank), cut.allocation, start))


def _blind_cut(cut: Cut, ranks: tuple[int, ...], layers: Sequence[FileLayer], spectra: Sequence[Tensor]) -> BlindCut:
    squared = [float(sigma.square().sum()) for sigma in spectra]
    gone = [float(sigma[rank:].square().sum()) for sigma, rank in zip(spectra, ranks, strict=True)]
    return BlindCut(
        cut=cut,
        ranks=ranks,
        params=sum(rank * layer.width for rank, layer in zip(ranks, layers, strict=True)),
        bytes=sum(layer.bytes_at(rank) for rank, layer in zip(ranks, layers, strict=True)),
        change=math.sqrt(math.fsum(gone) / math.fsum(squared)),
        changes=tuple(math.sqrt(lost / whole) if whole else None for lost, whole in zip(gone, squared, strict=True)),
    )


def _spectrum(layer: FileLayer, sigma: Tensor) -> LayerSpectrum:
    held = sigma.square().cumsum(0)

    def needed(share: float) -> int:
        return int((held < share * held[-1]).sum()) + 1 if held[-1] else 0

    return LayerSpectrum(
        layer.name, layer.rank, layer.params, float(sigma.norm()), float(sigma[0]), needed(0.9), needed(0.99)
    )
