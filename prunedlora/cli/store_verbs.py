"""report, recommend and compare: what stores say, from their records alone."""

import shlex
import sys
from typing import Annotated

import typer
from rich.console import Console

from prunedlora.cli.options import ServeOn, SizeAxis, Slot, StoreArgument, servers_of, share_of_quality
from prunedlora.errors import clear_errors


def report(
    store: StoreArgument,
    size_axis: SizeAxis = None,
    serve_on: ServeOn = None,
    to: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write the report's files there instead of into the store.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of the table.")] = False,
) -> None:
    """Front, table and report of a store, from its records alone.

    Its files go into the store's folder `report`; against another size than the sweep's own, or for other servers, into
    one in there.
    """
    with clear_errors():
        from prunedlora.results.report.show_report import show_report
        from prunedlora.results.store import Store

        servers = servers_of(serve_on)
        opened = Store(store)
        opened.open()
        size = None if size_axis is None else size_axis.value
        show_report(opened, Console(), Console(stderr=True), size=size, to=to, as_json=as_json, serve_on=servers)


def recommend(
    store: StoreArgument,
    within: Annotated[
        str | None,
        typer.Option(help="Most that it may measure worse than the best: 0.01, or 1pt; else the sweep's own margin."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Of what is proven, for all adapters at once, 0.5 to below 1.")
    ] = 0.95,
    proven: Annotated[
        bool, typer.Option("--proven", help="The smallest that is proven so, in the place of the smallest measured.")
    ] = False,
    max_params: Annotated[int | None, typer.Option(min=1, help="Most parameters.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Most bytes of A and B.")] = None,
    served_slot: Annotated[
        Slot | None, typer.Option(help="Largest rank: what a server's slot holds.", show_default=False)
    ] = None,
    max_slot_bytes: Annotated[
        int | None, typer.Option(min=1, help="Most bytes of its served slot on the GPU, in half precision.")
    ] = None,
    size_axis: SizeAxis = None,
    serve_on: ServeOn = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The smallest adapter that is about as good as the best: what a margin buys, what is measured and what proven."""
    with clear_errors():
        from prunedlora.results.analysis.constraints import Constraints
        from prunedlora.results.report.verdict import print_verdict
        from prunedlora.results.store import Store

        servers = servers_of(serve_on)
        opened = Store(store)
        opened.open()
        slot = None if served_slot is None else int(served_slot)
        print_verdict(
            opened,
            Console(),
            within=None if within is None else share_of_quality(within),
            confidence=confidence,
            constraints=Constraints(max_params, max_bytes, slot, max_slot_bytes),
            proven=proven,
            size=None if size_axis is None else size_axis.value,
            serve_on=servers,
            as_json=as_json,
        )


def compare(
    stores: Annotated[list[str], typer.Argument(metavar="STORE…", help="Storages of sweeps: paths or URIs.")],
    names: Annotated[str | None, typer.Option(help="What to call them, old,new say; else as their sweeps.")] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Groups of trials of one store instead: adapter.method, label, …"),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Name of the one that all others are compared with; else the first.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="Difference that counts as none: 0.01, or 1pt; else the sweeps' own margin.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of all statements together, 0.5 to below 1.")] = 0.95,
    to: Annotated[str | None, typer.Option(help="Folder for comparison.html and comparison.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sweeps side by side, or the methods of one: whose adapters are better at which sizes, and how sure that is."""
    with clear_errors():
        from prunedlora.results.comparison.compare import run_comparison

        run_comparison(
            stores, Console(), names=names.split(",") if names is not None else None, by=by, against=against,
            within=None if within is None else share_of_quality(within), confidence=confidence, to=to, as_json=as_json,
            command=shlex.join(["prunedlora", *sys.argv[1:]]),
        )  # fmt: skip
