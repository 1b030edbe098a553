"""Measured latencies for the terminal, within 100 columns, and as plain data."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.latency_document import Latency, spread
from prunedlora.results.figure_text import bytes_text
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.report.tables import plain_table

Row = tuple[TrialRecord, Candidate, Latency]


def print_latencies(rows: Sequence[Row], console: Console, *, as_json: bool) -> None:
    """Prints the table, or the measurements as JSON."""
    if as_json:
        print_plain(console, json.dumps(latency_document(rows), indent=1))
    else:
        console.print(latency_table(rows))
        console.print(Text(_noise(rows)))


def latency_document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain JSON data, every repetition in seconds."""
    return [
        {
            "candidate": f"{record.key}@{candidate.name}",
            "max_rank": candidate.max_rank,
            "file_bytes": candidate.file_bytes,
            **latency.model_dump(mode="json"),
        }
        for record, candidate, latency in rows
    ]


def latency_table(rows: Sequence[Row]) -> Table:
    """Medians in milliseconds; of the adapter and the merged model, as a multiple of the base model too. All rows were
    measured under the same conditions."""
    first = rows[0][2]
    table = plain_table(f"Median of {len(first.base_seconds)}: {first.conditions.sentence()}")
    table.add_column("candidate", overflow="fold")
    for name in ("rank", "file", "load ms", "base ms", "adapter ms", "merged ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for record, candidate, latency in rows:
        table.add_row(
            f"{record.key}@{candidate.name}",
            str(candidate.max_rank),
            bytes_text(candidate.file_bytes),
            milliseconds(latency.load),
            milliseconds(latency.base),
            beside_base(latency.adapter, latency.adapter_ratios),
            "" if latency.merged is None else beside_base(latency.merged, latency.merged_ratios),
        )
    return table


def _noise(rows: Sequence[Row]) -> str:
    spreads = [
        found
        for _, _, latency in rows
        for ratios in (latency.adapter_ratios, latency.merged_ratios)
        if (found := spread(ratios)) is not None
    ]
    if not spreads:
        return "One round each: how much of it is noise cannot be said."
    return (
        f"×: median of the multiples of the base model's pass in the same round, whose middle half spread over up to "
        f"{max(spreads):.2f}: smaller differences may be noise."
    )


def beside_base(seconds: float, ratios: Sequence[float]) -> str:
    """Milliseconds, and the median multiple of the base model's."""
    return f"{milliseconds(seconds)} (×{statistics.median(ratios):.2f})"


def milliseconds(seconds: float) -> str:
    """To three digits."""
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
