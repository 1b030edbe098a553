"""export, serving, latency and harness: one adapter of a store, copied out or measured."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prunedlora.cli.options import CandidateArgument, CandidatesArgument, Dtype, Front, Slot, StoreArgument
from prunedlora.errors import clear_errors
from prunedlora.plain_print import print_plain

if TYPE_CHECKING:
    from prunedlora.results.storage import NotAllowedError
    from prunedlora.results.store import Store


def export(
    store: StoreArgument,
    to: Annotated[Path, typer.Option(help="Folder for the adapter; must not exist.")],
    candidate: CandidateArgument = None,
    check: Annotated[bool, typer.Option(help="Load it with the base model and compare logits, merged too.")] = True,
    merge: Annotated[bool, typer.Option("--merge", help="The whole model with the adapter in its weights.")] = False,
    uniform: Annotated[
        bool, typer.Option("--uniform", help="One rank in all layers, the largest, for any server; zeros fill up.")
    ] = False,
    uniform_rank: Annotated[
        int | None, typer.Option(min=1, help="The same with this rank, at least the largest.", show_default=False)
    ] = None,
    served_slot: Annotated[
        Slot | None, typer.Option(help="The same with the rank of one of vLLM's slots.", show_default=False)
    ] = None,
    gguf: Annotated[
        bool, typer.Option("--gguf", help="A GGUF file for llama.cpp, Ollama and LM Studio, of the ranks as they are.")
    ] = False,
    serve_on: Annotated[
        str | None,
        typer.Option(metavar="SERVER", help="In the smallest form that this server applies as it was trained."),
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Store the weights in this type; else as trained.", show_default=False)
    ] = None,
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
        from prunedlora.delivery.served_folders import form_for
        from prunedlora.results.analysis.find import RECOMMENDED, find_candidate
        from prunedlora.results.store import Store

        if private and push is None:
            raise typer.BadParameter("--private has no effect without --push")
        if uniform and uniform_rank is not None:
            raise typer.BadParameter("--uniform is the largest rank: leave it out, or --uniform-rank")
        if serve_on is not None and (merge or uniform or uniform_rank or served_slot or gguf):
            raise typer.BadParameter(
                "--serve-on chooses the form: leave it out, or --merge, --uniform, --uniform-rank, --served-slot and "
                "--gguf"
            )
        if push is not None and not check:
            raise typer.BadParameter("what is pushed is checked first: leave out --no-check or --push")
        opened = Store(store)
        opened.open()
        asked = None if serve_on is None else [serve_on]
        record, chosen = find_candidate(opened, RECOMMENDED if candidate is None else candidate, serve_on=asked)
        name = f"{record.key}@{chosen.name}"
        if push is not None:
            publish.check_push(push)
        form = Form(
            slot=None if served_slot is None else int(served_slot),
            uniform=chosen.max_rank if uniform else uniform_rank,
            dtype=None if dtype is None else dtype.value,
            merged=merge,
            gguf=gguf,
        )
        if serve_on is not None:
            form = replace(form_for(record, chosen, serve_on), dtype=form.dtype)
        facts = export_candidate(opened, name, to, check=check, form=form, hub=push)
        console = Console()
        print_plain(console, f"Candidate: {name}")
        for fact, value in facts.items():
            print_plain(console, f"{fact}: {value}")
        print_plain(console, f"Adapter: {to}")
        if push is not None:
            message = f"Adapter {name}, exported by prunedlora"
            url = publish.push(to, push, private=private, message=message)
            print_plain(console, f"Pushed: {url}")


def serving(
    store: StoreArgument,
    candidate: CandidateArgument = None,
    front: Front = False,
    max_loras: Annotated[int, typer.Option(min=1, help="Slots that the server keeps on the GPU.")] = 1,
    max_lora_rank: Annotated[Slot, typer.Option(help="Rank of its slots.")] = Slot.R16,
    dtype: Annotated[Dtype, typer.Option(help="Type of its slots' numbers.")] = Dtype.BFLOAT16,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Its model class adapts embeddings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """GPU memory that an adapter costs a vLLM server that runs already: a slot, or larger slots for all."""
    with clear_errors():
        from prunedlora.results.analysis.find import RECOMMENDED
        from prunedlora.results.analysis.serving import Server
        from prunedlora.results.report.serving_table import print_serving
        from prunedlora.results.store import Store

        _refuse_both(candidate is not None, front)
        server = Server(max_loras, int(max_lora_rank), dtype.value, embeddings)
        opened = Store(store)
        opened.open()
        name = None if front else RECOMMENDED if candidate is None else candidate
        print_serving(opened, name, server, Console(), as_json=as_json)


def latency(
    store: StoreArgument,
    candidates: CandidatesArgument = None,
    front: Front = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences of a forward pass.")] = 8,
    num_tokens: Annotated[int, typer.Option(min=1, help="Length of each.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds whose median counts.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every repetition in it.")] = False,
) -> None:
    """Measure on this machine how long adapters take to load and to run, beside and inside of the base weights."""
    with clear_errors():
        from prunedlora.delivery.candidate_latency import Shape, measure_latencies
        from prunedlora.results.analysis.find import RECOMMENDED
        from prunedlora.results.analysis.summary import summarize
        from prunedlora.results.report.latency_table import print_latencies
        from prunedlora.results.store import Store

        _refuse_both(bool(candidates), front)
        opened, waiting = Store(store), Console(stderr=True)
        opened.open()
        names = candidates or [RECOMMENDED]
        if front:
            names = [point.name for point in summarize(opened).shippable_front]
        rows = measure_latencies(
            opened,
            names,
            Shape(batch_size, num_tokens, repeat),
            on_start=lambda name: print_plain(waiting, f"measuring {name}"),
            on_read_only=lambda error: print_plain(waiting, _not_kept(opened, error)),
        )
        print_latencies(rows, Console(), as_json=as_json)


def harness(
    store: StoreArgument,
    task: Annotated[
        list[str], typer.Option(help="A task of lm-evaluation-harness by name, its file, or a folder; give any number.")
    ],
    candidate: CandidateArgument = None,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Examples in the prompt; else the task's.")] = None,
    limit: Annotated[str | None, typer.Option(help="Documents of each task: 100, or a share: 0.1.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests per forward pass; else 8.")] = None,
    unsafe_code: Annotated[
        bool, typer.Option("--unsafe-code", help="Allow tasks that run code which the model writes.")
    ] = False,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Write prompts out by the chat template.")
    ] = False,
    system_instruction: Annotated[str | None, typer.Option(help="What stands before every prompt.")] = None,
) -> None:
    """Measure a candidate's adapter with lm-evaluation-harness, as PEFT loads it, and keep the figures in the store."""
    with clear_errors():
        from prunedlora.config.load import parse_harness
        from prunedlora.delivery.candidate_harness import measure_stored
        from prunedlora.results.analysis.find import RECOMMENDED
        from prunedlora.results.figure_text import figure_text
        from prunedlora.results.harness_document import write_harness
        from prunedlora.results.storage import NotAllowedError
        from prunedlora.results.store import Store

        opened = Store(store)
        opened.open()
        given = {
            "num_fewshot": num_fewshot,
            "limit": limit,
            "batch_size": batch_size,
            "unsafe_code": unsafe_code,
            "apply_chat_template": apply_chat_template,
            "system_instruction": system_instruction,
        }
        name = RECOMMENDED if candidate is None else candidate
        run = measure_stored(opened, name, task, parse_harness(given))
        console = Console()
        print_plain(console, f"Candidate: {run.key}@{run.candidate}")
        for figure_name, figure in sorted(run.figures.items()):
            print_plain(console, f"{figure_name}: {figure_text(figure)} ({figure.num_examples:,} documents)")
        try:
            print_plain(console, f"Kept in {opened.storage.uri_of(write_harness(opened, run))}")
        except NotAllowedError as error:
            print_plain(Console(stderr=True), _not_kept(opened, error))


def _not_kept(store: "Store", error: "NotAllowedError") -> str:
    return f"{store.uri} is read-only, the figures are not kept ({error})"


def _refuse_both(named: bool, front: bool) -> None:
    if named and front:
        raise typer.BadParameter("--front is all candidates on the front: name none beside it")
