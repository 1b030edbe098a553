"""The commands of jobs/benchmark.py: each prints what it does and ends with its figures as one JSON line."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prunedlora.errors import clear_errors
from prunedlora.storage_option import given_storage

if TYPE_CHECKING:
    from prunedlora.config.sweep import SweepConfig

app = typer.Typer(no_args_is_help=True, add_completion=False)

SweepFile = Annotated[Path, typer.Option("--sweep", help="Sweep file whose trials are measured.")]

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Replace a field of the sweep: another model, other data, …"),
]
RetryFailed = Annotated[bool, typer.Option(help="Train again, once, what is on record as failed.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, …")]
NumThreads = Annotated[int, typer.Option(min=1, help="Threads of torch on the CPU.")]


@app.callback()
def benchmark() -> None:
    """Measurements of the product on this machine."""


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
    from prunedlora.benchmarks.overhead import efficiency, trials_per_hour
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

    from prunedlora.benchmarks.event_speed import event_speed

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

    from prunedlora.benchmarks.step_speed import step_costs
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

    from prunedlora.benchmarks.throughput import throughput as measure
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


@app.command()
@clear_errors()
def small_model(
    folder: Annotated[Path, typer.Argument(help="Gets model/ and backward.jsonl.")] = Path("runs/small_model"),
    num_steps: Annotated[int, typer.Option(min=60, help="Pretraining steps.")] = 2000,
    num_threads: NumThreads = 2,
) -> None:
    """Makes a small pretrained model and its task, for accuracy with search_spaces/compare_small*.yaml."""
    import torch

    from prunedlora.benchmarks.small_model import make

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
    from prunedlora.benchmarks.report_speed import report_seconds
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
        list[int] | None, typer.Option(min=1, help="Made-up trials before the asks; else 1000 and 3000.")
    ] = None,
    num_asks: Annotated[int, typer.Option(min=1, help="Asks of each kind, in turns.")] = 5,
) -> None:
    """One ask of a large sweep: seconds with the study that lives as long as the driver, and with a rebuilt one."""
    from prunedlora.benchmarks.ask_speed import ask_seconds
    from prunedlora.config.load import load_sweep

    config = load_sweep(sweep_file, overrides or ())
    with tempfile.TemporaryDirectory() as scratch:
        figures = ask_seconds(config, Path(scratch) / "store", num_trials=num_trials or [1000, 3000], num_asks=num_asks)
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

    from prunedlora.benchmarks.removal import removal_costs
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
    from prunedlora.benchmarks.data_memory import data_costs
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
    """Whether stated confidence is kept: of recommendations, of bounds, of the probability to be on the front."""
    from prunedlora.benchmarks.coverage import print_coverage

    figures = print_coverage(num_sweeps=num_sweeps, num_draws=num_draws, seed=seed, console=Console(width=120))
    typer.echo(json.dumps(figures))
