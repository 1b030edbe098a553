"""shrink: how small an adapter that exists can be, without a sweep file; by its weights alone, or judged by data."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prunedlora.cli.options import DryRun, MaxSeconds, Overrides, RetryFailed
from prunedlora.cli.sweep_verbs import check_packages, run_or_plan, typed_command
from prunedlora.errors import clear_errors
from prunedlora.plain_print import print_plain
from prunedlora.storage_option import given_storage
from prunedlora.sweep.signals import leaving_at_once

if TYPE_CHECKING:
    from prunedlora.config.sweep import SweepConfig

STEPS, LEARNING_RATE, BATCH_SIZE = 100, 2e-4, 16
"""By default. The rate is QLoRA's for 7B and 13B models (https://arxiv.org/abs/2305.14314); the others are round
numbers."""


class ModelDtype(StrEnum):
    """model.dtype."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Quantization(StrEnum):
    """model.quantization."""

    NF4 = "nf4"
    INT8 = "int8"


class Task(StrEnum):
    """data.task."""

    GENERATION = "generation"
    TEXT_CLASSIFICATION = "text_classification"


class Rows(StrEnum):
    """The format of a source of data."""

    MESSAGES = "messages"
    SHAREGPT = "sharegpt"
    PROMPT_COMPLETION = "prompt_completion"
    ALPACA = "alpaca"
    INPUT_OUTPUT = "input_output"
    TEXT = "text"


def _option(help: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, **{"show_default": False, **settings})


DATA = "Data"
SIZES = "Sizes, at most one of these; else halves of its parameters down to 1/32"
COURSE = "What is done with it"
BLIND = "Without --data"


def shrink(
    adapter: Annotated[
        str,
        typer.Argument(
            help="A folder of PEFT's, a name on the Hub, or store:STORE/KEY@NAME for a candidate of a store.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        _option(
            "What it is judged by: a file or folder (README, Bring your data), a dataset on the Hub, hf:// s3:// "
            "https://, reasoning_gym:TASK; or a sweep file (.yaml), whose model, data and evaluation are then taken. "
            "Data that the adapter was trained on make it look better than it is. Without data: how far its weights "
            "move at each size, which is no accuracy.",
            rich_help_panel=DATA,
        ),
    ] = None,
    validation: Annotated[
        str | None,
        _option(
            "Where the examples come from that candidates are compared on; else a quarter of the distinct prompts of "
            "--data, at most 500, is cut from it.",
            rich_help_panel=DATA,
        ),
    ] = None,
    test: Annotated[
        str | None,
        _option("The same for the examples that the recommended adapter is tested on.", rich_help_panel=DATA),
    ] = None,
    num_validation: Annotated[int | None, _option("So many are cut instead.", min=1, rich_help_panel=DATA)] = None,
    num_test: Annotated[int | None, _option("So many are cut instead.", min=1, rich_help_panel=DATA)] = None,
    prompt: Annotated[
        str | None, _option("Template of what the model reads, as '{question}'.", rich_help_panel=DATA)
    ] = None,
    target: Annotated[
        str | None, _option("Template of the answer or the class, as '{answer}'.", rich_help_panel=DATA)
    ] = None,
    rows: Annotated[
        Rows | None, _option("What the rows are; else known by their columns.", "--format", rich_help_panel=DATA)
    ] = None,
    chat_template: Annotated[
        str | None, _option("tokenizer, none, or a jinja file, for conversations.", rich_help_panel=DATA)
    ] = None,
    max_length: Annotated[
        int | None, _option("Longest input in tokens; else the model's limit.", min=1, rich_help_panel=DATA)
    ] = None,
    task: Annotated[
        Task | None,
        _option("What the adapter is for, where its files do not say it.", rich_help_panel=DATA),
    ] = None,
    labels: Annotated[
        str | None,
        _option(
            "Classes in the order of the logits, as back,front, or a file with one name a line, where neither the "
            "adapter nor its base names them.",
            rich_help_panel=DATA,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        _option(
            "What it is judged by, as in evaluation.metric; else accuracy for classes and loss for text.",
            rich_help_panel=DATA,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, _option("Longest generated answer, for metrics that generate.", min=1, rich_help_panel=DATA)
    ] = None,
    within: Annotated[
        float | None,
        _option(
            "The recommended adapter is the smallest that is at most so much worse than the best; else 0.01 (one "
            "point) of a score, 0.02 of loss.",
            min=0.0,
            rich_help_panel=DATA,
        ),
    ] = None,
    kept: Annotated[
        str | None, _option("Shares of its parameters that stay, falling, as .5,.25.", rich_help_panel=SIZES)
    ] = None,
    mean_rank: Annotated[
        str | None, _option("As many as all layers have at this rank, as 4,2,0.5.", rich_help_panel=SIZES)
    ] = None,
    parameters: Annotated[str | None, _option("Parameters, as 50000,20000.", rich_help_panel=SIZES)] = None,
    steps: Annotated[
        int | None,
        _option(
            "Optimizer steps at each size; 0 only cuts, in minutes, without Ray and Optuna. The default is a round "
            "number and not measured.",
            min=0,
            show_default=str(STEPS),
            rich_help_panel=COURSE,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        _option(
            "Peak at each size, of factors and heads; the default is published practice for LoRA, and not tuned.",
            show_default=f"{LEARNING_RATE:g}",
            rich_help_panel=COURSE,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        _option("Examples per step.", min=1, show_default=str(BATCH_SIZE), rich_help_panel=COURSE),
    ] = None,
    seed: Annotated[int | None, _option("Of the order of the data.", min=0, rich_help_panel=COURSE)] = None,
    base: Annotated[
        str | None,
        _option("Where its base model is, if not where the adapter says.", rich_help_panel=COURSE),
    ] = None,
    revision: Annotated[
        str | None, _option("Of an adapter on the Hub: branch, tag or commit.", rich_help_panel=COURSE)
    ] = None,
    dtype: Annotated[
        ModelDtype | None,
        _option("Of the base weights.", show_default="auto: bfloat16 on a GPU", rich_help_panel=COURSE),
    ] = None,
    quantization: Annotated[
        Quantization | None, _option("Of the base weights; needs a GPU.", rich_help_panel=COURSE)
    ] = None,
    num_workers: Annotated[int | None, _option("Ray Train workers.", min=1, rich_help_panel=COURSE)] = None,
    gpus_per_worker: Annotated[
        float | None,
        _option("0, 1 or a part of one.", min=0.0, show_default="1 if there is a GPU here", rich_help_panel=COURSE),
    ] = None,
    storage: Annotated[
        str | None,
        _option("Folder of the records, or s3://…, gs://….", show_default="runs/shrink-ADAPTER"),
    ] = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
    retry_failed: RetryFailed = False,
    to: Annotated[
        Path | None, _option("Write the cut adapters, figures and a chart into this new folder.", rich_help_panel=BLIND)
    ] = None,
    all_layers: Annotated[
        bool, _option("Tell every layer, not kinds of them.", "--layers", rich_help_panel=BLIND)
    ] = False,
    as_json: Annotated[bool, _option("Print JSON.", "--json", rich_help_panel=BLIND)] = False,
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
            "base": base, "dtype": dtype, "quantization": quantization, "num_workers": num_workers,
            "gpus_per_worker": gpus_per_worker,
        }  # fmt: skip
        run = {
            "storage": storage, "set": overrides, "dry_run": dry_run, "max_seconds": max_seconds,
            "retry_failed": retry_failed,
        }  # fmt: skip
        blind = {"to": to, "layers": all_layers, "json": as_json}
        if data is None:
            _refuse({**judged, **trained, **run}, "without --data")
            _without_data(adapter, revision, sizes, to=to, all_layers=all_layers, as_json=as_json)
            return
        _refuse(blind, "beside --data")
        if steps == 0:
            _refuse(
                {"learning_rate": learning_rate, "num_workers": num_workers}, "with --steps 0, which trains nothing"
            )
        else:
            check_packages("shrink with steps needs", "; --steps 0, which only cuts, needs neither")
        from prunedlora.sweep.shrink_data import DataOptions
        from prunedlora.sweep.shrink_plan import ShrinkOptions, plan_shrink

        defaults: dict[str, Any] = {"steps": STEPS, "learning_rate": LEARNING_RATE, "batch_size": BATCH_SIZE}
        given = {name: value for name, value in trained.items() if value is not None}
        plan = plan_shrink(
            ShrinkOptions(
                adapter=adapter,
                revision=revision,
                data=DataOptions(data=data, **judged),
                overrides=overrides or (),
                **sizes,
                **(defaults | given),
            )
        )
        console = Console()
        for line in plan.lines:
            print_plain(console, line)
        uri = given_storage(storage, plan.config.storage)
        if steps == 0:
            _run_here(plan.config, uri, dry_run=dry_run, max_seconds=max_seconds, retry_failed=retry_failed)
        else:
            run_or_plan(plan.config, uri, dry_run=dry_run, max_seconds=max_seconds, retry_failed=retry_failed)


def _refuse(given: dict[str, Any], why: str) -> None:
    """Raises BadParameter for options that are given and have no effect."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None and value is not False]
    if names:
        verb = "has" if len(names) == 1 else "have"
        raise typer.BadParameter(f"{', '.join(names)} {verb} no effect {why}")


def _without_data(
    adapter: str,
    revision: str | None,
    sizes: dict[str, str | None],
    *,
    to: Path | None,
    all_layers: bool,
    as_json: bool,
) -> None:
    from prunedlora.delivery.blind_cuts import describe_shrink
    from prunedlora.delivery.blind_text import blind_json, print_blind
    from prunedlora.sweep.shrink_original import read_original
    from prunedlora.sweep.shrink_sizes import sizes_for

    if as_json and all_layers:
        raise typer.BadParameter("--layers has no effect beside --json, which tells every layer")
    original = read_original(adapter, revision)
    report = describe_shrink(original.existing, sizes_for(original, **sizes))
    console = Console()
    if to is not None:
        from prunedlora.delivery.blind_folder import write_blind

        write_blind(original.existing, report, to)
    if as_json:
        import json

        print_plain(console, json.dumps(blind_json(report), indent=1, ensure_ascii=False))
    else:
        print_blind(report, console, all_layers=all_layers)


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
