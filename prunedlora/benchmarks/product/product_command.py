"""The benchmarks of the product itself: what it costs beside training, whether it keeps what it states."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from prunedlora.benchmarks.benchmark_options import Device, NumThreads, Overrides, SweepFile
from prunedlora.benchmarks.product import llama_cpp_command, search_command, served_command
from prunedlora.errors import clear_errors
from prunedlora.storage_option import given_storage

app = typer.Typer()
app.add_typer(search_command.app)
app.add_typer(llama_cpp_command.app)
app.add_typer(served_command.app)


@app.command()
@clear_errors()
def overhead(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    num_documented: Annotated[int, typer.Option(min=2, help="Short trials in Ray's documented pattern.")] = 6,
    num_slot: Annotated[int, typer.Option(min=2, help="The same short trials in slots.")] = 24,
    full_sweep: Annotated[bool, typer.Option(help="Run the whole sweep too, and its trials bare.")] = True,
    store: Annotated[str | None, typer.Option(help="Take this finished sweep instead of running one.")] = None,
) -> None:
    """Trials per hour in slots against one TorchTrainer per trial; efficiency of the whole sweep against bare runs."""
    from prunedlora.benchmarks.product.overhead import efficiency, trials_per_hour
    from prunedlora.config.load import load_sweep
    from prunedlora.results.store import Store
    from prunedlora.sweep.run import run_sweep
    from prunedlora.sweep.signals import leaving_at_once

    if store is not None and not full_sweep:
        raise typer.BadParameter("--store is a whole sweep's: it has no use with --no-full-sweep")
    console = Console()
    config = load_sweep(sweep_file)
    figures: dict[str, Any] = {}
    if full_sweep:
        with tempfile.TemporaryDirectory() as scratch:
            uri = given_storage(store, str(Path(scratch) / "store"), option="--store")
            if store is None:
                with leaving_at_once():
                    run_sweep(config, uri, console=console)
            figures["sweep"] = efficiency(Store(uri), console)
    figures |= trials_per_hour(config, num_documented=num_documented, num_slot=num_slot, console=console)
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def event(
    num_layers: Annotated[int, typer.Option(min=1, help="Square layers that lose components together.")] = 56,
    rank: Annotated[int, typer.Option(min=8)] = 256,
    width: Annotated[int, typer.Option(min=8, help="Inputs and outputs of a layer.")] = 1024,
    num_events: Annotated[int, typer.Option(min=1)] = 5,
    device: Device = "cpu",
    num_threads: NumThreads = 1,
) -> None:
    """One pruning event: all layers at once, against a plain implementation of the public algorithm."""
    import torch

    from prunedlora.benchmarks.product.event_speed import event_speed

    torch.set_num_threads(num_threads)
    figures = event_speed(
        num_layers=num_layers, rank=rank, width=width, num_events=num_events, device=torch.device(device)
    )
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def step(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    overrides: Overrides = None,
    initial_rank: Annotated[int, typer.Option(min=2)] = 32,
    target_rank: Annotated[int, typer.Option(min=1)] = 4,
    num_rounds: Annotated[int, typer.Option(min=1, help="Turns that every variant takes.")] = 10,
    round_steps: Annotated[int, typer.Option(min=1, help="Timed steps of a turn.")] = 6,
    device: Device = "cpu",
    num_threads: NumThreads = 1,
) -> None:
    """One training step: LoRA, pruning that watches, pruning that has shrunk, LoRA at the final rank."""
    import torch

    from prunedlora.benchmarks.product.step_speed import step_costs
    from prunedlora.config.load import load_sweep

    torch.set_num_threads(num_threads)
    figures = step_costs(
        load_sweep(sweep_file, overrides or (), base_only=True).trial,
        initial_rank=initial_rank,
        target_rank=target_rank,
        num_rounds=num_rounds,
        round_steps=round_steps,
        device=torch.device(device),
    )
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def throughput(
    batch_size: Annotated[int, typer.Option(min=2, help="Examples per optimizer step.")] = 128,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Examples per forward pass.")] = 8,
    vocabulary: Annotated[int, typer.Option(min=2, help="Of the small decoder whose steps are timed.")] = 49_152,
    width: Annotated[int, typer.Option(min=8, help="Of the decoder, and of the optimizer's factors.")] = 64,
    num_rounds: Annotated[int, typer.Option(min=1, help="Turns that every variant takes.")] = 10,
    sweep_file: Annotated[
        Path | None, typer.Option("--sweep", help="Count the padding of this sweep's training examples too.")
    ] = None,
    overrides: Overrides = None,
    device: Device = "cpu",
    num_threads: NumThreads = 1,
) -> None:
    """What a step saves. Counted: token positions, padding included, of passes as drawn and in order of length (on
    made-up lengths like those of worked maths answers and of instructions), and passes by a budget of tokens. Timed:
    forward and backward with logits of all tokens and of targets alone; a step of AdamW by default and fused. Ratios
    are "times as much without".
    """
    import torch

    from prunedlora.benchmarks.product.throughput import throughput as measure
    from prunedlora.config.load import load_sweep
    from prunedlora.trial.assets import load_task

    if micro_batch_size > batch_size:
        raise typer.BadParameter(f"--micro-batch-size {micro_batch_size} is above --batch-size {batch_size}")
    if overrides and sweep_file is None:
        raise typer.BadParameter("--set changes the sweep of --sweep: it has no use without")
    torch.set_num_threads(num_threads)
    own_lengths = None
    if sweep_file is not None:
        splits, task = load_task(load_sweep(sweep_file, overrides or (), base_only=True).trial)
        own_lengths = [len(feature.input_ids) for feature in task.encode(splits.train)]
    figures = measure(
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        vocabulary=vocabulary,
        width=width,
        num_rounds=num_rounds,
        own_lengths=own_lengths,
        device=torch.device(device),
    )
    for name, counts in figures["token_positions"].items():
        typer.echo(f"{name}: {counts['ratio']:.2f} times the token positions in the order of drawing")
    typer.echo(f"head: {figures['head']['ratio']:.2f} times the seconds with logits of all tokens")
    typer.echo(f"optimizer: {figures['optimizer']['ratio']:.2f} times the seconds without the fused kernel")
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def small_model(
    folder: Annotated[Path, typer.Argument(help="Gets model/ and backward.jsonl.")] = Path("runs/small_model"),
    num_steps: Annotated[int, typer.Option(min=60, help="Pretraining steps.")] = 2000,
    num_threads: NumThreads = 2,
) -> None:
    """Makes a small pretrained model and its task, for accuracy with search_spaces/compare_small*.yaml."""
    import torch

    from prunedlora.benchmarks.product.small_model import make

    torch.set_num_threads(num_threads)
    make(folder, num_steps, typer.echo)
    typer.echo(json.dumps({"model": str(folder / "model"), "task": str(folder / "backward.jsonl")}))


@app.command()
@clear_errors()
def report(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    num_trials: Annotated[int, typer.Option(min=1, help="Made-up trials.")] = 1320,
    num_candidates: Annotated[int, typer.Option(min=1, help="Of each trial that completes.")] = 8,
) -> None:
    """The report of a large sweep: seconds to read the store, to make the page and all files, bytes of the page."""
    from prunedlora.benchmarks.product.report_speed import report_seconds
    from prunedlora.config.load import load_sweep

    with tempfile.TemporaryDirectory() as scratch:
        figures = report_seconds(
            load_sweep(sweep_file),
            Path(scratch) / "store",
            num_trials=num_trials,
            num_candidates=num_candidates,
        )
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def ask(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    overrides: Overrides = None,
    num_trials: Annotated[
        list[int] | None, typer.Option(min=1, help="Made-up trials before the asks; else 100, 1000 and 10000.")
    ] = None,
    num_asks: Annotated[int, typer.Option(min=1, help="Asks of each kind, in turns.")] = 5,
    num_candidates: Annotated[int, typer.Option(min=1, help="Of each trial, told as `telling` says.")] = 5,
) -> None:
    """One ask of a large sweep: seconds with the study that lives as long as the driver, and with a rebuilt one."""
    from prunedlora.benchmarks.product.ask_speed import ask_seconds
    from prunedlora.config.load import load_sweep

    config = load_sweep(sweep_file, overrides or ())
    figures = ask_seconds(
        config, num_trials=num_trials or [100, 1000, 10000], num_asks=num_asks, num_candidates=num_candidates
    )
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def pruning(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    overrides: Overrides = None,
    rank: Annotated[int, typer.Option(min=5, help="Rank of the adapter that is trained; 87.5 % of it go.")] = 32,
    num_steps: Annotated[int, typer.Option(min=1, help="Steps of its training.")] = 260,
    num_seeds: Annotated[int, typer.Option(min=1)] = 3,
    num_batches: Annotated[int, typer.Option(min=1, help="Batches that statistics are averaged over.")] = 20,
    num_single_layers: Annotated[int, typer.Option(min=0, help="Layers whose components are removed one by one.")] = 4,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Variants to measure: --only 'gradient/*' …; else all.")
    ] = None,
    device: Device = "cpu",
    num_threads: NumThreads = 1,
) -> None:
    """Removal at once by every criterion, recovery and basis: rise of the held-out loss right after it."""
    import torch

    from prunedlora.benchmarks.product.removal import removal_costs
    from prunedlora.config.load import load_sweep

    torch.set_num_threads(num_threads)
    figures = removal_costs(
        load_sweep(sweep_file, overrides or (), base_only=True).trial,
        rank=rank,
        num_steps=num_steps,
        num_seeds=num_seeds,
        num_batches=num_batches,
        num_single_layers=num_single_layers,
        only=only or ["*"],
        device=torch.device(device),
        console=Console(),
    )
    typer.echo(json.dumps(figures))


@app.command()
@clear_errors()
def data(
    sweep_file: SweepFile = Path("search_spaces/quickstart.yaml"),
    overrides: Overrides = None,
    num_tokens: Annotated[int, typer.Option(min=1, help="Of the made-up data.")] = 2_000_000,
    num_steps: Annotated[int, typer.Option(min=1, help="Batches that are timed, either way in turns.")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 32,
) -> None:
    """Tokenised data as lists and as mapped files: memory, objects to collect, seconds to load, a step's batch."""
    from prunedlora.benchmarks.product.data_memory import data_costs
    from prunedlora.config.load import load_sweep

    trial = load_sweep(sweep_file, overrides or (), base_only=True).trial
    typer.echo(json.dumps(data_costs(trial, num_tokens=num_tokens, num_steps=num_steps, batch_size=batch_size)))


@app.command()
@clear_errors()
def coverage(
    num_sweeps: Annotated[int, typer.Option(min=1, help="Simulated sweeps of each scenario.")] = 1000,
    num_draws: Annotated[int, typer.Option(min=100, help="Resamplings of each.")] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Whether stated confidence is kept: of the decision's bounds, of intervals, of settings, of confirmations."""
    from prunedlora.benchmarks.product.coverage import print_coverage

    figures = print_coverage(num_sweeps=num_sweeps, num_draws=num_draws, seed=seed, console=Console(width=120))
    typer.echo(json.dumps(figures))
