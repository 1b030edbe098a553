"""confirm and test: whether adapters that were chosen are as good as they measured."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prunedlora.cli.options import DryRun, MaxSeconds, Overrides, StoreArgument, share_of_quality
from prunedlora.cli.sweep_verbs import check_packages
from prunedlora.errors import clear_errors
from prunedlora.plain_print import print_plain
from prunedlora.sweep.signals import leaving_at_once

if TYPE_CHECKING:
    from prunedlora.delivery.stored_tests import TestedCandidate
    from prunedlora.results.analysis.summary import Summary

NAMES_HELP = (
    "KEY (a trial's last as it was trained), KEY@NAME, where the beginning of a key will do; `recommended`, `best`, or "
    "`front`, all on the front; any number."
)
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.", show_default="a GPU where there is one")]


def confirm(
    store: StoreArgument,
    candidates: Annotated[
        list[str] | None,
        typer.Argument(metavar="CANDIDATE…", help=NAMES_HELP, show_default="recommended best"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fresh trainings of each; at least 2 where adapters are compared.")] = 3,
    most_seeds: Annotated[
        int | None,
        typer.Option(help="Go on up to so many where they do not tell.", show_default="as many as --seeds"),
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(help="Times that it is looked, from --seeds to --most-seeds.", show_default="one at each"),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(help="Most that it may be worse: 0.01, or 1pt.", show_default="the sweep's recommend_within"),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of what is told, all looks and candidates together.")] = 0.95,
    here: Annotated[bool, typer.Option("--here", help="In this process, one after another, without Ray.")] = False,
    device: Device = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
) -> None:
    """Train again with fresh seeds what the decision hangs on, and say whether it holds.

    Where the recommended adapter is the best itself, it is set beside the best plain LoRA of other settings; where
    there is none, beside the next smaller adapter of the front.

    The trainings go into the same store, with test figures, and beside its recommendation, which they do not change.
    The same command goes on where it was interrupted, and prints the result again once there is one.
    """
    with leaving_at_once(), clear_errors():
        if device is not None and not here:
            raise typer.BadParameter(
                "--device has no effect without --here: slots have what --set resources gives them"
            )
        if not here:
            check_packages("confirm needs", "; --here takes neither")
        from prunedlora.sweep.confirm_open import open_confirmation, print_confirmation_plan
        from prunedlora.sweep.confirm_plan import WHAT_HANGS, Request

        request = Request(
            names=tuple(candidates or WHAT_HANGS),
            num_seeds=seeds,
            most_seeds=most_seeds,
            num_looks=looks,
            within=None if within is None else share_of_quality(within),
            confidence=confidence,
        )
        console, changes = Console(), overrides or ()
        if dry_run:
            print_confirmation_plan(open_confirmation(store, request, changes), console)
            return
        if here:
            from prunedlora.sweep.confirm_here import confirm_here
            from prunedlora.sweep.given_device import given_device

            status = confirm_here(
                store, request, console=console, device=given_device(device), overrides=changes, max_seconds=max_seconds
            )
        else:
            from prunedlora.sweep import confirm as on_slots

            status = on_slots.confirm(store, request, console=console, overrides=changes, max_seconds=max_seconds)
        raise typer.Exit(status)


def on_test(
    store: StoreArgument,
    candidates: Annotated[list[str], typer.Argument(metavar="CANDIDATE…", help=NAMES_HELP, show_default=False)],
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure adapters on the test split, once, and keep the figures in the store."""
    with clear_errors():
        from prunedlora.delivery.stored_tests import measure_tests
        from prunedlora.results.analysis.summary import summarize
        from prunedlora.results.driver_lock import DriverLock
        from prunedlora.results.store import Store
        from prunedlora.sweep.given_device import given_device
        from prunedlora.sweep.here_run import quiet

        opened, waiting = Store(store), Console(stderr=True)
        opened.open()
        DriverLock(opened.storage, say=lambda line: print_plain(waiting, line)).refuse_living()
        summary = summarize(opened)
        front = [point.name for point in summary.shippable_front]
        names = [name for each in candidates for name in (front if each == "front" else [each])]
        if not names:
            raise typer.BadParameter(f"front: {opened.uri} has none. {summary.missing_answer()}")
        with quiet():
            rows = measure_tests(
                opened, names, given_device(device), lambda name: print_plain(waiting, f"measuring {name}")
            )
        _print_tests(summary, rows, as_json=as_json)


def _print_tests(summary: "Summary", rows: "list[TestedCandidate]", *, as_json: bool) -> None:
    from prunedlora.results.analysis.tested import tested
    from prunedlora.results.figure_text import figure_text
    from prunedlora.results.report.tables import plain_table

    console, quality = Console(), summary.objectives.quality
    num_seen = len(tested(summary.store, summary.points))
    if as_json:
        found = [
            {
                "candidate": row.name,
                "validation": {name: figure.model_dump() for name, figure in row.validation.items()},
                "test": {name: figure.model_dump() for name, figure in row.test.items()},
                "measured_now": row.is_new,
            }
            for row in rows
        ]
        print_plain(console, json.dumps({"candidates": found, "num_tested": num_seen}, indent=1))
        return
    table = plain_table(None)
    table.add_column("candidate", overflow="fold")
    for name in (f"{quality} on validation", "on test", ""):
        table.add_column(name, no_wrap=True)
    for row in rows:
        sides = [figure_text(side[quality]) if quality in side else "" for side in (row.validation, row.test)]
        table.add_row(row.name, *sides, "" if row.is_new else "before")
    console.print(table)
    if num_seen > 1:
        print_plain(
            console,
            f"{num_seen:,} candidates of this store were looked at on the test split: the best of them there is no "
            "unbiased figure any more. Choose on validation.",
        )
