"""The `prunedlora` command: search, train, report, recommend, compare, export, serving, latency, harness.

The scripts in jobs/ do the same as the verbs of their names, for `ray job submit`.

Everything heavy is imported inside the verbs, so that `--help` answers at once.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prunedlora.errors import clear_errors

if TYPE_CHECKING:
    from prunedlora.config.sweep import SweepConfig

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

SweepFile = Annotated[Path, typer.Argument(help="Sweep file (YAML), see search_spaces/.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Replace a field: --set trial.pruning.recovery_strength=0.5"),
]
Storage = Annotated[
    str | None,
    typer.Option(help="Folder of the records: a path that all nodes share, or s3://…, gs://…; else the file's."),
]
DryRun = Annotated[bool, typer.Option(help="Check everything and print the plan; start nothing.")]
MaxSeconds = Annotated[
    float | None, typer.Option(min=1, help="End cleanly after this time; the same command goes on later.")
]
RetryFailed = Annotated[bool, typer.Option(help="Train trials again whose record says failed.")]
SizeAxis = Annotated[
    str | None,
    typer.Option(help="adapter_params, file_bytes, served_slot_bytes, …: what is to be small; else the sweep's."),
]
CandidateArgument = Annotated[str, typer.Argument(metavar="KEY[@STEP]", help="A candidate; without step its last.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Storage of a sweep: a path or URI.")]


@app.command()
def search(
    sweep_file: SweepFile,
    storage: Storage = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Run a sweep, or go on with one: trials, front, report, recommended adapter."""
    with clear_errors():
        from prunedlora.config.load import load_sweep

        config = load_sweep(sweep_file, overrides or ())
        place = _given(storage, config.storage)
        _run(config, place, dry_run=dry_run, max_seconds=max_seconds, retry_failed=retry_failed)


@app.command()
def train(
    sweep_file: SweepFile,
    storage: Storage = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Train one configuration: the file's `trial`, with overrides, and nothing of its space."""
    with clear_errors():
        from prunedlora.config.identity import trial_key
        from prunedlora.config.load import load_sweep

        config = load_sweep(sweep_file, overrides or (), base_only=True)
        place = _given(storage, f"{config.storage}-train/{trial_key(config.trial)}")
        _run(config, place, dry_run=dry_run, max_seconds=max_seconds, retry_failed=retry_failed)


@app.command()
def report(store: StoreArgument, size_axis: SizeAxis = None) -> None:
    """Front, table and report of a store, from its records alone."""
    with clear_errors():
        from prunedlora.results.report.report import write_report
        from prunedlora.results.report.tables import print_report
        from prunedlora.results.store import Store

        opened = Store(store)
        opened.open()
        print_report(write_report(opened, size=size_axis), Console())


@app.command()
def recommend(
    store: StoreArgument,
    within: Annotated[str, typer.Option(help="Most that it may be worse than the best: 0.01, or 1pt.")] = "1pt",
    confidence: Annotated[float, typer.Option(help="With which that is proven, 0.5 to below 1.")] = 0.95,
    max_params: Annotated[int | None, typer.Option(min=1, help="Most parameters.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Most bytes of A and B.")] = None,
    served_slot: Annotated[int | None, typer.Option(min=1, help="Largest rank: what a server's slot holds.")] = None,
    max_slot_bytes: Annotated[
        int | None, typer.Option(min=1, help="Most bytes of its served slot on the GPU, in half precision.")
    ] = None,
    size_axis: SizeAxis = None,
    knee: Annotated[bool, typer.Option(help="Where a larger adapter stops paying, instead; no statistics.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The smallest adapter that is proven to be about as good as the best."""
    with clear_errors():
        from prunedlora.results.analysis.recommendation import Constraints
        from prunedlora.results.report.verdict import print_knee, print_verdict
        from prunedlora.results.store import Store

        opened = Store(store)
        opened.open()
        constraints = Constraints(max_params, max_bytes, served_slot, max_slot_bytes)
        if knee:
            if constraints != Constraints() or as_json:
                raise typer.BadParameter("--knee looks at the front's shape alone: no other option goes with it")
            print_knee(opened, Console(), size=size_axis)
            return
        share = _share(within)
        print_verdict(
            opened,
            Console(),
            within=share,
            confidence=confidence,
            constraints=constraints,
            size=size_axis,
            as_json=as_json,
        )


@app.command()
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
    within: Annotated[str, typer.Option(help="Difference that counts as none: 0.01, or 1pt.")] = "1pt",
    confidence: Annotated[float, typer.Option(help="Of all statements together, 0.5 to below 1.")] = 0.95,
    to: Annotated[str | None, typer.Option(help="Folder for comparison.html and comparison.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sweeps side by side, or the methods of one: whose adapters are better at which sizes, and how sure that is."""
    with clear_errors():
        from prunedlora.results.comparison.compare import run_comparison

        run_comparison(
            stores, Console(), names=names.split(",") if names is not None else None, by=by, against=against,
            within=_share(within), confidence=confidence, to=to, as_json=as_json,
            command=shlex.join(["prunedlora", *sys.argv[1:]]),
        )  # fmt: skip


@app.command()
def export(
    store: StoreArgument,
    candidate: CandidateArgument,
    to: Annotated[Path, typer.Option(help="Folder for the plain PEFT adapter; must not exist.")],
    check: Annotated[bool, typer.Option(help="Load it with the base model and compare logits, merged too.")] = True,
    merge: Annotated[bool, typer.Option("--merge", help="The whole model with the adapter in its weights.")] = False,
    served_slot: Annotated[int | None, typer.Option(help="Pad every layer to this rank (vLLM: 1, 8, 16, …).")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; else as trained.")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="REPO_ID", help="Then upload the folder to this repository of the Hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository a private one.")] = False,
) -> None:
    """Copy a candidate's adapter out of a store: a plain PEFT folder with a model card, checked against the base."""
    with clear_errors():
        from prunedlora.delivery import publish
        from prunedlora.delivery.candidate_export import export_candidate
        from prunedlora.delivery.form import Form
        from prunedlora.results.find import find_candidate
        from prunedlora.results.store import Store

        if private and push is None:
            raise typer.BadParameter("--private has no effect without --push")
        if push is not None and not check:
            raise typer.BadParameter("what is pushed is checked first: leave out --no-check or --push")
        opened = Store(store)
        opened.open()
        record, chosen = find_candidate(opened, candidate)
        if push is not None:
            publish.check_push(push)
        facts = export_candidate(opened, candidate, to, check=check, form=Form(served_slot, dtype, merge))
        console = Console()
        for name, value in facts.items():
            console.print(f"{name}: {value}", highlight=False)
        console.print(f"Adapter: {to}", highlight=False, soft_wrap=True)
        if push is not None:
            message = f"Adapter of trial {record.key}, step {chosen.name}, exported by prunedlora"
            url = publish.push(to, push, private=private, message=message)
            console.print(f"Pushed: {url}", highlight=False, soft_wrap=True)


@app.command()
def serving(
    store: StoreArgument,
    candidate: Annotated[
        str | None, typer.Argument(metavar="KEY[@STEP]", help="A candidate; without: the front.")
    ] = None,
    max_loras: Annotated[int, typer.Option(help="Slots that the server keeps on the GPU.")] = 1,
    max_lora_rank: Annotated[int, typer.Option(help="Rank of its slots: 1, 8, 16, 32, …")] = 16,
    dtype: Annotated[str, typer.Option(help="Of its slots: float16, bfloat16 or float32.")] = "bfloat16",
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Its model class adapts embeddings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """GPU memory that an adapter costs a vLLM server that runs already: a slot, or larger slots for all."""
    with clear_errors():
        from prunedlora.results.analysis.serving import Server
        from prunedlora.results.report.serving_table import print_serving
        from prunedlora.results.store import Store

        server = Server(max_loras, max_lora_rank, dtype, embeddings)
        opened = Store(store)
        opened.open()
        print_serving(opened, candidate, server, Console(), as_json=as_json)


@app.command()
def latency(
    store: StoreArgument,
    candidates: Annotated[list[str] | None, typer.Argument(metavar="[KEY[@STEP]]...", help="Candidates.")] = None,
    front: Annotated[bool, typer.Option("--front", help="All adapters on the front.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a forward pass.")] = 8,
    num_tokens: Annotated[int, typer.Option(min=1, help="Length of each.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds whose median counts.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every repetition in it.")] = False,
) -> None:
    """Measure on this machine how long adapters take to load and to run, beside and inside of the base weights."""
    with clear_errors():
        from prunedlora.delivery.candidate_latency import Shape, measure_latencies
        from prunedlora.results.analysis.summary import summarize
        from prunedlora.results.report.latency_table import print_latencies
        from prunedlora.results.store import Store

        if bool(candidates) == front:
            raise typer.BadParameter("name candidates (KEY or KEY@STEP), or give --front for those on the front")
        opened, waiting = Store(store), Console(stderr=True)
        opened.open()
        names = candidates or [point.name for point in summarize(opened).shippable_front]
        rows = measure_latencies(
            opened,
            names,
            Shape(batch_size, num_tokens, repeat),
            on_start=lambda name: waiting.print(f"measuring {name}", highlight=False),
        )
        print_latencies(rows, Console(), as_json=as_json)


@app.command()
def harness(
    store: StoreArgument,
    candidate: CandidateArgument,
    task: Annotated[
        list[str], typer.Option(help="A task of lm-evaluation-harness by name, its file, or a folder; give any number.")
    ],
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Examples in the prompt; else the task's.")] = None,
    limit: Annotated[str | None, typer.Option(help="Documents of each task: 100, or a share: 0.1.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests per forward pass; else 8.")] = None,
    unsafe_code: Annotated[
        bool, typer.Option("--unsafe-code", help="Allow tasks that run code which the model writes.")
    ] = False,
) -> None:
    """Measure a candidate's adapter with lm-evaluation-harness, as PEFT loads it, and keep the figures in the store."""
    with clear_errors():
        from prunedlora.config.load import parse_harness
        from prunedlora.delivery.candidate_harness import measure_stored
        from prunedlora.results.figure_text import figure_text
        from prunedlora.results.harness_document import write_harness
        from prunedlora.results.store import Store

        opened = Store(store)
        opened.open()
        given = {"num_fewshot": num_fewshot, "limit": limit, "batch_size": batch_size, "unsafe_code": unsafe_code}
        run = measure_stored(opened, candidate, task, parse_harness(given))
        console = Console()
        for name, figure in sorted(run.figures.items()):
            line = f"{name}: {figure_text(figure)} ({figure.num_examples:,} documents)"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        kept = opened.storage.uri_of(write_harness(opened, run))
        console.print(f"Kept in {kept}", highlight=False, markup=False, soft_wrap=True)


def _share(text: str) -> float:
    """A difference of quality: a number, or points (hundredths) as in 1pt."""
    number = text.removesuffix("pt")
    try:
        return float(number) / (100.0 if number != text else 1.0)
    except ValueError:
        raise typer.BadParameter(f"--within {text!r} is neither a number (0.01) nor points (1pt)") from None


def _given(storage: str | None, default: str) -> str:
    """The option's value; an empty one (an unset variable of the shell) is refused, not taken for none."""
    if storage is not None and not storage.strip():
        raise typer.BadParameter("--storage is empty")
    return default if storage is None else storage


def _run(config: "SweepConfig", storage: str, *, dry_run: bool, max_seconds: float | None, retry_failed: bool) -> None:
    """Runs the sweep, or prints its plan, and ends the process with what came of it as exit status."""
    from prunedlora.sweep.plan import print_plan
    from prunedlora.sweep.run import run_sweep
    from prunedlora.sweep.signals import leaving_at_once

    if dry_run:
        print_plan(config, storage, Console(), retry_failed=retry_failed)
        return
    with leaving_at_once():
        result = run_sweep(
            config,
            storage,
            console=Console(),
            command=sys.argv,
            max_seconds=max_seconds if max_seconds is not None else config.max_seconds,
            retry_failed=retry_failed,
        )
    raise typer.Exit(result.exit_code)


if __name__ == "__main__":
    app()
