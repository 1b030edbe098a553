"""What all charts share: colours that are legible on white and on black, axes, and texts from outside made safe."""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ec4899", "#eab308", "#06b6d4", "#84cc16")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "pentagon", "star", "hexagon")
ORIGINAL_SYMBOL, ORIGINAL_COLOURS = "star-diamond", ("#0d9488", "#be185d", "#a16207", "#4f46e5")
"""Of the adapters that trainings began with."""
GREY = "#8a8f98"
RED = "#ef4444"
GRID = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "linecolor": GREY, "automargin": True}
SIZE_TITLES = {
    "adapter_params": "adapter parameters (A and B)",
    "adapter_bytes": "adapter bytes (A and B, float32)",
    "file_bytes": "bytes on disk (head included)",
    "max_rank": "largest rank",
    "served_slot": "served slot (rank)",
    "served_slot_bytes": "served slot bytes (half precision)",
}


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


def axis_position(sizes: Sequence[float]) -> Callable[[float], float]:
    """Size → where it stands on a logarithmic axis, which has no 0: empty adapters stand left of all others."""
    smallest = min((size for size in sizes if size > 0), default=1.0)
    return lambda size: size if size > 0 else smallest / 3


def size_ticks(sizes: Sequence[float]) -> list[float]:
    """0 where there is such a size, then 1, 2 and 5 times the powers of ten around the others."""
    positive = [size for size in sizes if size > 0]
    ticks = [0.0] if len(positive) < len(sizes) else []
    if positive:
        first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        decades = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
        ticks += [tick for tick in decades if min(positive) / 1.7 < tick < max(positive) * 2]
    return ticks


def short_number(size: float) -> str:
    """A tick's text: 20k, 1.5M; small numbers with the digits they have."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{size / factor:g}{unit}"
    return f"{size:g}"


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
