"""What all charts share: a look for every method, colours that are legible on white and on black, axes, and texts from
outside made safe."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.serve_text import as_served

GREY = "#747a84"
RED = "#e0393e"
FADED = 0.8
"""Opacity of what is beaten. All colours below keep 3:1 with it, on white and in the dark (WCAG 2.2, 1.4.11)."""
GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "linecolor": GREY, "automargin": True}
LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}
SIZE_TITLES = {
    "adapter_params": "adapter parameters (A and B)",
    "adapter_bytes": "adapter bytes (A and B, float32)",
    "file_bytes": "bytes on disk (head included)",
    "max_rank": "largest rank",
    "served_slot": "served slot (rank)",
    "served_slot_bytes": "served slot bytes (half precision)",
}


def size_title(objectives: Objectives) -> str:
    """Of the axis of sizes, with the servers that they are for."""
    return SIZE_TITLES[objectives.size] + as_served(objectives)


@dataclass(frozen=True)
class Look:
    """Colour and mark of a method, or of whatever is compared."""

    colour: str
    symbol: str
    """By Plotly's name; front_png.py has matplotlib's."""


LOOKS = {
    "prunedlora": Look("#2f74e8", "circle"),
    "lora": Look("#cd5408", "diamond"),
    "rslora": Look("#0d8a63", "square"),
    "svd": Look("#9a55e3", "triangle-up"),
    "adalora": Look("#d63c84", "cross"),
    "l1ra": Look("#9f6f09", "pentagon"),
    "droplora": Look("#0b86a3", "star"),
    "full": Look("#57860f", "hexagon"),
}
"""Of the registered methods, the same on every page and picture."""
ORIGINAL_LOOKS = tuple(Look(colour, "star-diamond") for colour in ("#0e877c", "#ce4883", "#9a7114", "#6f69e2"))
"""Of the adapters that trainings began with."""
COLOURS = tuple(look.colour for look in LOOKS.values())


def looks(names: Sequence[str]) -> list[Look]:
    """One for each name: a method's own; others by their order, with colour and mark in pairs that no method has."""
    table, found, num_others = list(LOOKS.values()), [], 0
    for place, name in enumerate(names):
        if name in LOOKS and name not in names[:place]:
            found.append(LOOKS[name])
            continue
        turn, colour = divmod(num_others, len(table))
        found.append(Look(table[colour].colour, table[(colour + turn + 1) % len(table)].symbol))
        num_others += 1
    return found


def layout(**changes: Any) -> dict[str, Any]:
    """A figure's layout without a background of its own: the page shows through, in the dark too."""
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": GREY, "size": 13},
        "margin": {"l": 60, "r": 15, "t": 40, "b": 55},
        "hoverlabel": {"align": "left", "bgcolor": "#1f2937", "bordercolor": "#1f2937", "namelength": -1},
        **changes,
    }


def text(value: str) -> str:
    """Any text as Plotly shows it literally: its texts are a subset of HTML, its hover templates read `%{`.
    Quotes stay: it would show them escaped.
    """
    return html.escape(value, quote=False).replace("%", "&#37;").replace("\n", " ")


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Dotted path → its last parts, two or as many more as tell it from the others."""
    names = {path: path.split(".") for path in paths}

    def suffix(path: str, length: int) -> str:
        return ".".join(names[path][-length:])

    found = {}
    for path, parts in names.items():
        lengths = range(2, len(parts) + 1)
        unique = (n for n in lengths if sum(suffix(other, n) == suffix(path, n) for other in names) == 1)
        found[path] = suffix(path, next(unique, len(parts)))
    return found
