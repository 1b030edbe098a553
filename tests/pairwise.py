"""Few enough of many combinations: every pair of values that occurs in any of them occurs in one that is chosen."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations, product
from typing import Any

import pytest

Pair = tuple[int, Hashable, int, Hashable]


def pairs(row: Sequence[Hashable]) -> Iterable[Pair]:
    """All pairs of a combination's values, each with its position."""
    return ((i, left, j, right) for (i, left), (j, right) in combinations(enumerate(row), 2))


def pairwise(rows: Sequence[Sequence[Hashable]]) -> list[int]:
    """Indices of rows, rising, in which every pair of values of `rows` occurs; greedy, of equal rows the first.

    Rows are the combinations that are allowed, so a constraint between values needs no words of its own: this is what
    generators of pairwise tests (allpairspy, for one) are weak at, who know the axes and are told afterwards what they
    may not combine.
    """
    number = {pair: bit for bit, pair in enumerate(dict.fromkeys(pair for row in rows for pair in pairs(row)))}
    masks = [sum(1 << number[pair] for pair in pairs(row)) for row in rows]
    missing, chosen = (1 << len(number)) - 1, []
    while missing:
        best = max(range(len(rows)), key=lambda i: ((masks[i] & missing).bit_count(), -i))
        missing &= ~masks[best]
        chosen.append(best)
    return sorted(chosen)


def parametrize_pairwise(**axes: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrizes a test over the whole product of the axes; what the pairwise choice leaves out is marked slow."""
    rows = list(product(*axes.values()))
    chosen = set(pairwise(rows))
    marks = [() if i in chosen else (pytest.mark.slow,) for i in range(len(rows))]
    return pytest.mark.parametrize(tuple(axes), [pytest.param(*rows[i], marks=marks[i]) for i in range(len(rows))])
