"""What adapters cost a running server, for the terminal (within 100 columns) and as plain data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.serving import (
    Server,
    ServingCost,
    ServingError,
    refused_text,
    serving_cost,
    widths_of,
)
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.figure_text import bytes_text, figure_text
from prunedlora.results.report.tables import plain_table
from prunedlora.results.store import Store

Row = tuple[Point, ServingCost]


def print_serving(store: Store, candidate: str | None, server: Server, console: Console, *, as_json: bool) -> None:
    """Prints what a candidate costs the server, or each one on the front that can be shipped when none is
    named.

    Raises ServingError for records without widths, UnknownCandidateError, and what `summarize` raises.
    """
    summary = summarize(store)
    if candidate is None:
        points: Sequence[Point] = summary.shippable_front
        if not points:
            raise ServingError(summary.missing_answer() or f"no adapter on the front of {store.uri} can be shipped")
    else:
        record, found = find_candidate(store, candidate)
        quality = found.figure(summary.objectives.quality)
        points = [Point(record, found, quality, float(found.adapter_params))]
    rows = [(point, serving_cost(point.record, point.candidate, server)) for point in points]
    if as_json:
        document = serving_document(rows, server, summary.objectives.quality)
        print_plain(console, json.dumps(document, indent=1))
    else:
        console.print(serving_group(rows, server, summary.objectives.quality))


def serving_document(rows: Sequence[Row], server: Server, quality: str) -> dict[str, Any]:
    """The rows as plain JSON data, sizes in bytes."""
    return {
        "server": asdict(server),
        "adapters": [
            {
                "candidate": point.name,
                quality: point.quality.value,
                "adapter_params": point.candidate.adapter_params,
                "file_bytes": point.candidate.file_bytes,
                "max_rank": point.candidate.max_rank,
                "head_params": point.candidate.head_params,
                "max_lora_rank": cost.rank,
                "slots_bytes_before": cost.bytes_before,
                "slots_bytes_after": cost.bytes_after,
                "slots_bytes_added": cost.bytes_added,
            }
            for point, cost in rows
        ],
    }


def serving_group(rows: Sequence[Row], server: Server, quality: str) -> Group:
    """The table and what has to be known to read it."""
    table = plain_table(f"On a server of {server.max_loras} slots of rank {server.max_lora_rank} in {server.dtype}")
    table.add_column("candidate", overflow="fold")
    for name in (quality, "file", "rank", "slots at", "before", "after", "added"):
        table.add_column(name, justify="right", no_wrap=True)
    for point, cost in rows:
        table.add_row(
            point.name,
            figure_text(point.quality),
            bytes_text(point.candidate.file_bytes),
            str(point.candidate.max_rank),
            "none" if cost.rank is None else str(cost.rank),
            bytes_text(cost.bytes_before),
            *_after(cost),
        )
    return Group(table, Text(" ".join(_notes(rows, server))))


def _after(cost: ServingCost) -> tuple[str, str]:
    if cost.bytes_after is None or cost.bytes_added is None:
        return "", ""
    return bytes_text(cost.bytes_after), bytes_text(cost.bytes_added)


def _notes(rows: Sequence[Row], server: Server) -> list[str]:
    record = rows[0][0].record
    lines = [
        f"A slot holds A and B of all {len(widths_of(record, embeddings=server.embeddings))} layers of the base model "
        "at its rank, whatever an adapter adapts (vLLM; one GPU)."
    ]
    if not server.embeddings and record.embedding_widths:
        lines.append("Model classes that adapt embeddings too (Llama, Mistral, …) hold more: --embeddings.")
    if any(cost.rank is None for _, cost in rows):
        lines.append("No slot holds an adapter whose largest rank is above 512.")
    return [*lines, *filter(None, [refused_text([point.candidate for point, _ in rows])])]
