"""The commands of jobs/benchmark.py: each prints what it does and ends with its figures as one JSON line."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False)

SweepFile = Annotated[Path, typer.Option("--sweep", help="Sweep file whose trials are measured.")]


@app.callback()
def benchmark() -> None:
    """Measurements of the product on this machine."""


@app.command()
def overhead(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    num_documented: Annotated[int, typer.Option(min=2, help="Short trials in Ray's documented pattern.")] = 6,
    num_slot: Annotated[int, typer.Option(min=2, help="The same short trials in slots.")] = 24,
    full_sweep: Annotated[bool, typer.Option(help="Run the whole sweep too, and its trials bare.")] = True,
    store: Annotated[str | None, typer.Option(help="Take this finished sweep instead of running one.")] = None,
) -> None:
    """Trials per hour in slots against one TorchTrainer per trial; efficiency of the whole sweep against bare runs."""
    from prunedlora.benchmarks.overhead import efficiency, trials_per_hour
    from prunedlora.config.load import load_sweep
    from prunedlora.results.store import Store
    from prunedlora.search.sweep import run_sweep

    console = Console()
    config = load_sweep(sweep_file)
    figures: dict[str, Any] = {}
    if full_sweep:
        with tempfile.TemporaryDirectory() as scratch:
            uri = store or str(Path(scratch) / "store")
            if store is None:
                run_sweep(config, uri, console=console)
            figures["sweep"] = efficiency(Store(uri), console)
    figures |= trials_per_hour(config, num_documented=num_documented, num_slot=num_slot, console=console)
    typer.echo(json.dumps(figures))
