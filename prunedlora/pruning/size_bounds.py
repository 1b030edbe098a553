"""Bounds on the sizes of an adapter that will have been pruned or cut, known from the layers alone.

Which layers lose components is found while training; how much goes in all is not. Of the ranks r_l is known that
a_l ≤ r_l ≤ b_l, and between which numbers Σ r_l (components) and Σ w_l r_l (parameters) lie; all bounds follow from
these. Pure functions; no torch here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from prunedlora.pruning.target import Start, Unit

UNITS: tuple[Unit, ...] = ("components", "parameters")
Bounds = tuple[int, int]
"""(least, most)"""


@dataclass(frozen=True)
class Layers:
    """Layers of one kind."""

    num: int
    width: int
    """Parameters of one component."""
    least: int
    """Rank that each has at least."""
    most: int
    """And at most."""

    def weight(self, unit: Unit) -> int:
        """What one component counts."""
        return self.width if unit == "parameters" else 1


@dataclass(frozen=True)
class SizeBounds:
    """What is known of all layers' ranks."""

    layers: tuple[Layers, ...]
    totals: Mapping[Unit, Bounds]

    @classmethod
    def of(cls, start: Start) -> Self:
        """Layers as they are."""
        return cls._tightened([Layers(num, width, rank, rank) for (rank, width), num in start.layers.items()], {})

    @classmethod
    def of_any_ranks(cls, start: Start, least: int, most: int, total: Bounds) -> Self:
        """As many layers of these widths, of ranks from `least` to `most` and components between `total`."""
        layers = [Layers(num, width, least, most) for (_, width), num in start.of_rank(most).layers.items()]
        return cls._tightened(layers, {"components": total})

    @property
    def num_parameters(self) -> Bounds:
        """In A and B of all layers."""
        return self.totals["parameters"]

    @property
    def max_rank(self) -> Bounds:
        """Of the largest rank."""
        floor = max((layer.least for layer in self.layers), default=0)
        low, high = floor, max((layer.most for layer in self.layers), default=0)
        while low < high:  # the smallest rank that holds the least there is, if no layer is above it
            middle = (low + high) // 2
            if all(self._room(unit, middle) >= self.totals[unit][0] for unit in UNITS):
                high = middle
            else:
                low = middle + 1
        return low, max(self._highest(layer) for layer in self.layers) if self.layers else 0

    def capped(self, cap: int) -> Self:
        """After every layer above `cap` has been cut to it."""
        layers = [Layers(one.num, one.width, min(one.least, cap), min(one.most, cap)) for one in self.layers]
        totals = {unit: (self._least_capped(unit, cap), self.totals[unit][1]) for unit in UNITS}
        return self._tightened(layers, totals)

    def removed_to(self, unit: Unit, left: Bounds, floor: int) -> Self:
        """After layers have competed, none falling below `floor`, until what is left lies between `left`; as they are
        where they had less."""
        least, most = self.totals[unit]
        if most <= left[1]:
            return self
        layers = [Layers(one.num, one.width, min(one.least, floor), one.most) for one in self.layers]
        totals: dict[Unit, Bounds] = {each: (0, self.totals[each][1]) for each in UNITS}
        totals[unit] = min(least, left[0]), min(most, left[1])
        return self._tightened(layers, totals)

    @classmethod
    def _tightened(cls, layers: Sequence[Layers], totals: Mapping[Unit, Bounds]) -> Self:
        """With totals that the ranks allow, and that agree."""
        found: dict[Unit, Bounds] = {}
        for unit in UNITS:
            ends = [sum(one.num * one.weight(unit) * rank(one) for one in layers) for rank in (_least, _most)]
            least, most = totals.get(unit, (ends[0], ends[1]))
            found[unit] = max(least, ends[0]), min(most, ends[1])
        for unit, other in zip(reversed(UNITS), UNITS, strict=True):
            low, high = found[unit]
            found[unit] = (
                max(low, math.ceil(_filled(layers, unit, other, found[other][0], smallest=True))),
                min(high, math.floor(_filled(layers, unit, other, found[other][1], smallest=False))),
            )
        return cls(tuple(layers), found)

    def _room(self, unit: Unit, most_rank: int) -> int:
        """The most there can be if no layer is above `most_rank`."""
        return sum(one.num * one.weight(unit) * max(one.least, min(one.most, most_rank)) for one in self.layers)

    def _highest(self, layer: Layers) -> int:
        """The largest rank that a layer of this kind can have, all others being as small as they can be."""
        spare = (
            (self.totals[unit][1] - sum(one.num * one.weight(unit) * one.least for one in self.layers))
            // layer.weight(unit)
            for unit in UNITS
        )
        return min(layer.most, layer.least + min(spare))

    def _least_capped(self, unit: Unit, cap: int) -> int:
        """No less than this is left of what is there: components that lie high above the cap, in few layers, go first.
        Each layer's min(r, cap) is concave in r, and lies above the chord between its ends."""
        left: float = sum(one.num * one.weight(unit) * min(one.least, cap) for one in self.layers)
        to_place: float = self.totals[unit][0] - sum(one.num * one.weight(unit) * one.least for one in self.layers)
        shares = [
            ((min(one.most, cap) - min(one.least, cap)) / (one.most - one.least), one)
            for one in self.layers
            if one.most > one.least
        ]
        for share, one in sorted(shares, key=lambda pair: pair[0]):
            placed = min(to_place, one.num * one.weight(unit) * (one.most - one.least))
            left, to_place = left + placed * share, to_place - placed
        return math.ceil(left - 1e-6)


def left_of(start: Start, unit: Unit, num: int, block: int) -> Bounds:
    """What lies between, in `unit`, once `num` of the start are gone by whole components (blocks): components exactly,
    down to whole blocks; parameters no fewer than that, and by less than the widest block more."""
    total = start.size(unit)
    if num <= 0:
        return total, total
    if unit == "components":
        gone = num // block * block
        return total - gone, total - gone
    widths = [width for rank, width in start.layers if rank]
    grain, widest = math.gcd(*widths) * block, max(widths) * block
    return total - (num + widest - 1) // grain * grain, total - -(-num // grain) * grain


def _least(layer: Layers) -> int:
    return layer.least


def _most(layer: Layers) -> int:
    return layer.most


def _filled(layers: Iterable[Layers], unit: Unit, given: Unit, amount: int, *, smallest: bool) -> float:
    """The smallest or the largest total in `unit` of layers that have `amount` of `given`; a component may be split,
    which leaves it a bound."""
    layers = list(layers)
    total: float = sum(one.num * one.weight(unit) * one.least for one in layers)
    rest = amount - sum(one.num * one.weight(given) * one.least for one in layers)
    ordered = sorted(layers, key=lambda one: one.weight(unit) / one.weight(given), reverse=not smallest)
    for one in ordered:
        placed = min(rest, one.num * one.weight(given) * (one.most - one.least))
        total += placed * one.weight(unit) / one.weight(given)
        rest -= placed
    return total
