"""The commands of jobs/benchmark.py: each prints what it does and ends with its figures as one JSON line.

Here are those that compare methods on one's own model and data; those that measure the product are in
product/product_command.py, which the package that pip installs leaves out.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from prunedlora.benchmarks.benchmark_options import Device, NumThreads, Overrides
from prunedlora.errors import clear_errors
from prunedlora.storage_option import given_storage

if TYPE_CHECKING:
    from prunedlora.config.sweep import SweepConfig

PRODUCT = "prunedlora.benchmarks.product"
RetryFailed = Annotated[bool, typer.Option(help="Train again, once, what is on record as failed.")]


class Benchmarks(TyperGroup):
    """Says of a benchmark that is missing where those of the product are."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None and not _has_product():
            raise typer.BadParameter(
                f"no benchmark {cmd_name!r} is installed, but {', '.join(self.list_commands(ctx))}: those that measure "
                "prunedlora itself come with its repository alone (in a checkout: pip install -e .)"
            )
        return found


def _has_product() -> bool:
    return importlib.util.find_spec(PRODUCT) is not None


app = typer.Typer(cls=Benchmarks, no_args_is_help=True, add_completion=False)


@app.callback()
def benchmark() -> None:
    """Measurements on this machine."""


@app.command()
@clear_errors()
def accuracy(
    sweep_file: Annotated[Path, typer.Argument(help="Sweep file whose labelled baselines are the methods.")],
    overrides: Overrides = None,
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATTERN",
            help="Labels of the methods to compare: --only 'LoRA*' …; else all. What a run in the same storage left "
            "unfinished is finished first.",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="The method that all are compared with, seed by seed.")
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Where the trainings are kept; else the file's.")] = None,
    num_rates: Annotated[int, typer.Option(min=4, help="Learning rates tried at first, a factor 2 apart.")] = 4,
    num_tuning_seeds: Annotated[int, typer.Option(min=1, help="Seeds per learning rate.")] = 1,
    num_seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds at the best rate; 3 at least for a claim.")] = 3,
    retry_failed: RetryFailed = False,
    device: Device = "cpu",
    num_threads: NumThreads = 1,
) -> None:
    """Methods at equal size: tuned on validation, then trained with fresh seeds and tested. Run again, it goes on."""
    import torch

    from prunedlora.benchmarks.accuracy import compare
    from prunedlora.benchmarks.comparison import Trainings, only
    from prunedlora.config.load import load_sweep
    from prunedlora.fleet.cluster import connected
    from prunedlora.results.store import Store
    from prunedlora.sweep.signals import leaving_at_once

    torch.set_num_threads(num_threads)
    console = Console()
    config = load_sweep(sweep_file, overrides or ())
    if patterns:
        config = only(config, patterns)
    uri = given_storage(storage, config.storage)
    with leaving_at_once(), connected():
        figures = compare(
            Trainings(config, Store(uri), _sweeps(uri, console, retry_failed)),
            num_rates=num_rates,
            num_tuning_seeds=num_tuning_seeds,
            num_seeds=num_seeds,
            against=against,
            device=torch.device(device),
            console=console,
        )
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def ladder(
    sweep_file: Annotated[
        Path, typer.Argument(help="Sweep file whose baselines are trainings labelled 'variant' or 'variant: training'.")
    ],
    overrides: Overrides = None,
    patterns: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Labels of the trainings to compare; else all."),
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Where the trainings are kept; else the file's.")] = None,
    num_rates: Annotated[int, typer.Option(min=1, help="Learning rates tried at first; 1: no tuning.")] = 4,
    num_tuning_seeds: Annotated[int, typer.Option(min=1, help="Seeds per learning rate.")] = 1,
    num_seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds, the same for all.")] = 8,
    margin: Annotated[
        float, typer.Option(min=0.0, help="What the ladder may lose: quality; of a loss a share of the reference's.")
    ] = 0.02,
    asked: Annotated[
        str | None, typer.Option("--ladder", metavar="VARIANT", help="The variant that is asked about.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="What it loses to this at each size.")
    ] = None,
    rival: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="Whether it is ahead of this over sizes.")
    ] = None,
    retry_failed: RetryFailed = False,
    dry_run: Annotated[bool, typer.Option(help="Say how much is left to train, and start nothing.")] = False,
    device: Device = "cpu",
    num_threads: NumThreads = 1,
) -> None:
    """Trainings that give many sizes against those made for each: tuned, trained, tested. Run again, it goes on."""
    import torch

    from prunedlora.benchmarks.comparison import Trainings, only
    from prunedlora.benchmarks.ladder_comparison import left_to_train, measure
    from prunedlora.benchmarks.ladder_results import Plan
    from prunedlora.benchmarks.ladder_sentences import answers
    from prunedlora.benchmarks.ladder_table import details, figures, show
    from prunedlora.benchmarks.ladder_variants import variants_of
    from prunedlora.config.load import load_sweep
    from prunedlora.fleet.cluster import connected
    from prunedlora.results.store import Store
    from prunedlora.sweep.signals import leaving_at_once

    torch.set_num_threads(num_threads)
    console = Console(width=100)
    whole = load_sweep(sweep_file, overrides or ())
    config = only(whole, patterns) if patterns else whole
    uri = given_storage(storage, config.storage)
    trainings = Trainings(config, Store(uri), _sweeps(uri, console, retry_failed))
    plan = Plan(num_rates, num_tuning_seeds, num_seeds, margin, asked, reference, rival)
    plan.check([variant.name for variant in variants_of(trainings)])
    if dry_run:
        typer.echo(left_to_train(trainings, plan))
        return
    with leaving_at_once(), connected():
        results = measure(trainings, plan, whole=whole, device=torch.device(device), console=console)
    show(results, trainings.objectives, console)
    for line in answers(results, trainings.objectives)[0]:
        typer.echo(line)
    everything = json.dumps(details(results, trainings.objectives), indent=1, allow_nan=False)
    trainings.store.storage.write_text("ladder.json", everything + "\n")
    typer.echo(f"All figures: {trainings.store.storage.uri_of('ladder.json')}")
    typer.echo(json.dumps(figures(config.name, results, trainings.objectives)))


def _sweeps(uri: str, console: Console, retry_failed: bool) -> Callable[["SweepConfig"], None]:
    """Runs sweeps in a store to their ends; `retry_failed` in the first of them: what fails again has failed. Raises
    Exit where one is cut short: it has said how to go on."""
    from prunedlora.sweep.run import run_sweep

    retries = iter([retry_failed])

    def run(sweep: "SweepConfig") -> None:
        again = next(retries, False)
        if run_sweep(sweep, uri, console=console, command=sys.argv, retry_failed=again).ending == "interrupted":
            raise typer.Exit(130)

    return run


if _has_product():
    app.add_typer(importlib.import_module(f"{PRODUCT}.product_command").app)
