"""What cuts do to an adapter's update, for the terminal (80 columns suffice) and as plain data."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from prunedlora.delivery.blind_cuts import BlindCut, BlindReport, LayerSpectrum
from prunedlora.results.figure_text import bytes_text
from prunedlora.results.report.chart_style import short_names
from prunedlora.results.report.tables import plain_table

WORDS = {"uniform": "one rank", "global_per_parameter": "shared"}
"""Allocations, as columns call them."""
NO_ACCURACY = (
    "The change says how far the weights' update moves (Frobenius norm of the difference, as a share of that of the "
    "update), and is no accuracy: a task may not notice half of it, or depend on a hundredth. How much it depends on "
    "what goes only data can say."
)


@dataclass(frozen=True)
class _Group:
    """Layers that differ in nothing but numbers in their names, or one layer."""

    name: str
    members: list[int]
    """Indices of layers."""


def print_blind(report: BlindReport, console: Console, *, all_layers: bool = False) -> None:
    """Prints every cut of the whole, then what it does to kinds of layers, or to all of them."""
    _print(console, _heading(report))
    _print(console, "")
    console.print(_cuts_table(report))
    for left in report.left_out:
        _print(console, f"Not with {WORDS[left.cut.allocation]}: {left.reason}.")
    groups = _groups(report, all_layers)
    for allocation in WORDS:
        cuts = [each for each in report.cuts if each.cut.allocation == allocation]
        for table in _layers_tables(report, groups, cuts, allocation, console.width) if cuts else ():
            _print(console, "")
            console.print(table)
    _print(console, "")
    if not all_layers and any(len(group.members) > 1 for group in groups):
        _print(console, "Layers of one kind are told together; --layers tells each of them.")
    for line in (*_notes(report), NO_ACCURACY, _how(report)):
        _print(console, line)


def blind_json(report: BlindReport) -> dict[str, Any]:
    """The report as plain JSON data; sizes in numbers and bytes, changes as shares."""
    names = [layer.name for layer in report.layers]
    return {
        "adapter": report.name,
        "folder": str(report.folder),
        "base_model": report.base_name,
        "adapter_params": report.params,
        "adapter_bytes": report.bytes,
        "kept_whole": report.heads,
        "beside": report.beside,
        "layers": {layer.name: {k: v for k, v in asdict(layer).items() if k != "name"} for layer in report.layers},
        "cuts": [
            {
                "allocation": each.cut.allocation,
                "unit": each.cut.unit,
                "size": each.cut.size,
                "adapter_params": each.params,
                "adapter_bytes": each.bytes,
                "relative_change": each.change,
                "num_vanished": each.num_vanished,
                "layers": {
                    name: {"rank": rank, "relative_change": change}
                    for name, rank, change in zip(names, each.ranks, each.changes, strict=True)
                },
            }
            for each in report.cuts
        ],
        "left_out": [
            {"allocation": left.cut.allocation, "unit": left.cut.unit, "size": left.cut.size, "reason": left.reason}
            for left in report.left_out
        ],
    }


def change_text(change: float | None) -> str:
    """A relative change in percent; – for that of nothing."""
    if change is None:
        return "–"
    percent = 100 * change
    return "0 %" if percent == 0 else "<0.01 %" if percent < 0.01 else f"{percent:.{1 if percent >= 1 else 2}f} %"


def _print(console: Console, text: str) -> None:
    """Sentences with names in them: wrapped, and as they are otherwise."""
    console.print(text, markup=False, emoji=False, highlight=False)


def _heading(report: BlindReport) -> str:
    ranks = [layer.rank for layer in report.layers]
    span = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}"
    return (
        f"{report.name}: {len(ranks):,} layers of {span}, {report.params:,} parameters, {bytes_text(report.bytes)}; "
        "cut by its singular values, without a model or data"
    )


def _cuts_table(report: BlindReport) -> Table:
    table = plain_table("Relative change of the whole update")
    for name in (report.unit, "layers have", "parameters", "bytes", "ranks", "gone", "change", "worst layer"):
        table.add_column(name, justify="left" if name == "layers have" else "right", no_wrap=True)
    for each in report.cuts:
        worst = max(change for change in each.changes if change is not None)
        table.add_row(
            f"{each.cut.size:.12g}",
            WORDS[each.cut.allocation],
            f"{each.params:,}",
            bytes_text(each.bytes),
            _span(each.ranks),
            f"{each.num_vanished:,}" if each.num_vanished else "–",
            change_text(each.change),
            change_text(worst),
        )
    return table


def _layers_tables(
    report: BlindReport, groups: Sequence[_Group], cuts: Sequence[BlindCut], allocation: str, width: int
) -> Iterator[Table]:
    """As many sizes beside each other as have room in `width` columns; the layers' names are folded where not even one
    has beside them."""
    owns = [[report.layers[index] for index in group.members] for group in groups]
    columns = {
        name: [_span([getattr(layer, field) for layer in own]) for own in owns]
        for name, field in (("rank", "rank"), ("90 %", "rank_90"), ("99 %", "rank_99"))
    }
    sizes = {
        f"{each.cut.size:.12g}": [
            f"{_span([each.ranks[index] for index in group.members])}: {change_text(_together(group, own, each))}"
            for group, own in zip(groups, owns, strict=True)
        ]
        for each in cuts
    }
    names = [group.name for group in groups]
    room = width - sum(_width(name, cells) for name, cells in columns.items())
    least = min(_width("layers", names), room - max(_width(name, cells) for name, cells in sizes.items()))
    left = list(sizes)
    while left:
        fitting = 1
        while fitting < len(left) and least + sum(_width(name, sizes[name]) for name in left[: fitting + 1]) <= room:
            fitting += 1
        table = plain_table(f"Layers, {WORDS[allocation]}: ranks left and relative change, by {report.unit}")
        table.add_column("layers", overflow="fold")
        told = columns | {name: sizes[name] for name in left[:fitting]}
        for name in told:
            table.add_column(name, justify="right", no_wrap=True)
        for index, name in enumerate(names):
            table.add_row(name, *(cells[index] for cells in told.values()))
        yield table
        left = left[fitting:]


def _width(name: str, cells: Sequence[str]) -> int:
    """Of a column, with the space before the next one."""
    return max(len(name), *map(len, cells)) + 1


def _together(group: _Group, layers: Sequence[LayerSpectrum], cut: BlindCut) -> float | None:
    """Relative change of the layers as one."""
    whole = math.fsum(layer.norm**2 for layer in layers)
    changes = [cut.changes[index] or 0.0 for index in group.members]
    gone = math.fsum((change * layer.norm) ** 2 for change, layer in zip(changes, layers, strict=True))
    return math.sqrt(gone / whole) if whole else None


def _groups(report: BlindReport, all_layers: bool) -> list[_Group]:
    """Layers by their names without the numbers in them, in order."""
    kinds: dict[str, list[int]] = {}
    for index, layer in enumerate(report.layers):
        kinds.setdefault(layer.name if all_layers else re.sub(r"(?<=\.)\d+(?=\.)", "*", layer.name), []).append(index)
    if all_layers:
        return [_Group(name, members) for name, members in kinds.items()]
    short = short_names(kinds)
    return [
        _Group(f"{short[name]} ({len(members)})" if len(members) > 1 else short[name], members)
        for name, members in kinds.items()
    ]


def _span(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)}–{max(values)}"


def _notes(report: BlindReport) -> list[str]:
    lines = [
        "90 % and 99 %: components that hold so much of a layer's squared norm. gone: layers of which nothing is left. "
        "shared: the components that cost least per parameter go, over all layers; one rank: no layer has more."
    ]
    for what, tensors in (("trained whole (modules_to_save), and no cut touches it", report.heads), (
        "saved beside the factors: weights of the base, or another base's, which is not looked at here",
        report.beside,
    )):  # fmt: skip
        if tensors:
            lines.append(f"{', '.join(tensors)} ({sum(tensors.values()):,} parameters): {what}.")
    if zero := sum(layer.norm == 0 for layer in report.layers):
        lines.append(f"{zero:,} of {len(report.layers):,} layers change nothing (their update is zero): –.")
    return lines


def _how(report: BlindReport) -> str:
    return (
        f"To know it: prunedlora shrink {report.name} --data FILE, which measures every size on examples of the task."
    )
