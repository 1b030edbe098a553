"""shrink: how small an adapter that exists can be, without a sweep file; by its weights alone, or judged by data."""

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from prunedlora.cli.options import DryRun, MaxSeconds, Overrides, RetryFailed
from prunedlora.cli.shrink_blind import without_data
from prunedlora.cli.shrink_options import (
    BATCH_SIZE,
    LEARNING_RATE,
    STEPS,
    Adapter,
    AllLayers,
    AsJson,
    Base,
    BaseDtype,
    BatchSize,
    ChatTemplate,
    Data,
    GpusPerWorker,
    Kept,
    Labels,
    LearningRate,
    MaxLength,
    MaxNewTokens,
    MeanRank,
    Metric,
    NumTest,
    NumValidation,
    NumWorkers,
    Parameters,
    Prompt,
    QuantizationName,
    Revision,
    RowFormat,
    Seed,
    ShrinkStorage,
    Steps,
    Target,
    TaskName,
    Test,
    To,
    Validation,
    Within,
)
from prunedlora.cli.sweep_verbs import check_packages, run_or_plan, typed_command
from prunedlora.errors import clear_errors
from prunedlora.plain_print import print_plain
from prunedlora.storage_option import given_storage
from prunedlora.sweep.signals import leaving_at_once

if TYPE_CHECKING:
    from prunedlora.config.sweep import SweepConfig


def shrink(
    adapter: Adapter,
    data: Data = None,
    validation: Validation = None,
    test: Test = None,
    num_validation: NumValidation = None,
    num_test: NumTest = None,
    prompt: Prompt = None,
    target: Target = None,
    rows: RowFormat = None,
    chat_template: ChatTemplate = None,
    max_length: MaxLength = None,
    task: TaskName = None,
    labels: Labels = None,
    metric: Metric = None,
    max_new_tokens: MaxNewTokens = None,
    within: Within = None,
    kept: Kept = None,
    mean_rank: MeanRank = None,
    parameters: Parameters = None,
    steps: Steps = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    base: Base = None,
    revision: Revision = None,
    dtype: BaseDtype = None,
    quantization: QuantizationName = None,
    num_workers: NumWorkers = None,
    gpus_per_worker: GpusPerWorker = None,
    storage: ShrinkStorage = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
    retry_failed: RetryFailed = False,
    to: To = None,
    all_layers: AllLayers = False,
    as_json: AsJson = False,
) -> None:
    """How small can this adapter be? Makes it smaller, judges every size on data, and recommends one.

    The result is a store as a sweep leaves it, with a report, a front and the recommended adapter; the adapter as it
    came stands beside. The same command goes on where it was interrupted.
    """
    with leaving_at_once(), clear_errors():
        sizes: dict[str, Any] = {"kept": kept, "mean_rank": mean_rank, "parameters": parameters}
        judged: dict[str, Any] = {
            "validation": validation, "test": test, "num_validation": num_validation, "num_test": num_test,
            "prompt": prompt, "target": target, "format": rows, "task": task, "labels": labels, "metric": metric,
            "max_new_tokens": max_new_tokens, "max_length": max_length, "chat_template": chat_template,
        }  # fmt: skip
        trained: dict[str, Any] = {
            "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed, "within": within,
            "dtype": dtype, "quantization": quantization, "num_workers": num_workers,
            "gpus_per_worker": gpus_per_worker,
        }  # fmt: skip
        run = {
            "storage": storage, "set": overrides, "dry_run": dry_run, "max_seconds": max_seconds,
            "retry_failed": retry_failed,
        }  # fmt: skip
        blind = {"to": to, "layers": all_layers, "json": as_json}
        if data is None:
            _refuse({**judged, **trained, **run}, "without --data")
            without_data(adapter, revision, base, sizes, to=to, all_layers=all_layers, as_json=as_json)
            return
        _refuse(blind, "beside --data")
        if steps == 0:
            _refuse(
                {"learning_rate": learning_rate, "num_workers": num_workers}, "with --steps 0, which trains nothing"
            )
        else:
            check_packages("shrink with steps needs", "; --steps 0, which only cuts, needs neither")
        from prunedlora.sweep.shrink_data import DataOptions, told_by_options
        from prunedlora.sweep.shrink_plan import ShrinkOptions, plan_shrink

        defaults: dict[str, Any] = {"steps": STEPS, "learning_rate": LEARNING_RATE, "batch_size": BATCH_SIZE}
        given = {name: value for name, value in trained.items() if value is not None}
        read = DataOptions(data=data, **judged)
        with told_by_options(read):
            plan = plan_shrink(
                ShrinkOptions(
                    adapter=adapter,
                    revision=revision,
                    base=base,
                    data=read,
                    overrides=overrides or (),
                    **sizes,
                    **(defaults | given),
                )
            )
            console = Console()
            for line in plan.lines:
                print_plain(console, line)
            uri = given_storage(storage, plan.config.storage)
            start = _run_here if steps == 0 else run_or_plan
            start(plan.config, uri, dry_run=dry_run, max_seconds=max_seconds, retry_failed=retry_failed)


def _refuse(given: dict[str, Any], why: str) -> None:
    """Raises BadParameter for options that are given and have no effect."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None and value is not False]
    if names:
        verb = "has" if len(names) == 1 else "have"
        raise typer.BadParameter(f"{', '.join(names)} {verb} no effect {why}")


def _run_here(
    config: "SweepConfig", storage: str, *, dry_run: bool, max_seconds: float | None, retry_failed: bool
) -> None:
    """As `run_or_plan`, in this process."""
    from prunedlora.sweep.given_device import given_device
    from prunedlora.sweep.plan_here import print_plan_here
    from prunedlora.sweep.run_here import run_here

    device = given_device("cuda" if config.resources.gpus_per_worker > 0 else "cpu")
    if dry_run:
        print_plan_here(config, storage, Console())
        return
    if max_seconds is not None:
        config = config.model_copy(update={"max_seconds": max_seconds})
    result = run_here(
        config, storage, console=Console(), command=typed_command(), retry_failed=retry_failed, device=device
    )
    raise typer.Exit(result.exit_code)
