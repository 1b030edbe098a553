"""Every mean ± standard error that README, code and sweep files quote was measured: it lies in jobs/results."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
QUOTED = re.compile(r"([−-]?\d+\.\d+)\s±\s+(\d+\.\d+)")
PLACES = [
    ROOT / "README.md",
    ROOT / "jobs/results/README.md",
    *sorted(ROOT.glob("search_spaces/*.yaml")),
    *sorted(ROOT.glob("prunedlora/**/*.py")),
]


def figures(tree: Any) -> Iterator[tuple[float, float]]:
    """Every number and the one after it, in every list of a result: [mean, standard error, …]."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from figures(value)
    elif isinstance(tree, list):
        numbers = [value for value in tree[:2] if isinstance(value, float)]
        yield from pairwise(numbers)


@pytest.fixture(scope="module")
def measured() -> list[tuple[float, float]]:
    return [pair for file in (ROOT / "jobs/results").glob("*.json") for pair in figures(json.loads(file.read_text()))]


@pytest.mark.parametrize(
    "place",
    [place for place in PLACES if QUOTED.search(place.read_text("utf-8"))],
    ids=lambda place: str(place.relative_to(ROOT)),
)
def test_quoted_figures_are_measured_ones(place: Path, measured: list[tuple[float, float]]) -> None:
    def is_rounded(value: float, text: str) -> bool:
        return abs(value - float(text.replace("−", "-"))) <= 0.501 * 10 ** -len(text.split(".")[1])

    unknown = [
        quoted.group()
        for quoted in QUOTED.finditer(place.read_text("utf-8"))
        if not any(is_rounded(mean, quoted[1]) and is_rounded(stderr, quoted[2]) for mean, stderr in measured)
    ]
    assert unknown == []


@pytest.mark.parametrize("place", sorted(ROOT.glob("prunedlora/config/*.py")), ids=lambda place: place.name)
def test_settings_quote_no_measurement(place: Path) -> None:
    """They would age there; jobs/results/README.md has them, with their limits."""
    assert "±" not in place.read_text("utf-8")
