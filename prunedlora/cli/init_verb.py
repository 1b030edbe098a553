"""init: a sweep file for a model and data, with comments that say what each setting goes by."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunedlora.cli.shrink_options import Rows, Task
from prunedlora.errors import clear_errors
from prunedlora.plain_print import print_plain

ROWS = "Where they cannot be told, or are told wrongly"


def init(
    model: Annotated[
        str, typer.Option(help="A name on the Hub, a folder, or package:NAME/FOLDER.", show_default=False)
    ],
    data: Annotated[
        str,
        typer.Option(
            help="A file (csv, jsonl, parquet, …), a folder, a dataset on the Hub, or reasoning_gym:TASK.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write; one that exists is left alone.", show_default="DATA-MODEL.yaml"
        ),
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Folder of the records.", show_default="runs/DATA-MODEL")] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", help="For workers with a GPU each, or on CPUs.", show_default="as this machine"),
    ] = None,
    task: Annotated[Task | None, typer.Option(help="What is learnt.", rich_help_panel=ROWS, show_default=False)] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Template of what is read: '{text}'.", rich_help_panel=ROWS, show_default=False)
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Template of what is learnt: '{label}'.", rich_help_panel=ROWS, show_default=False),
    ] = None,
    rows: Annotated[
        Rows | None, typer.Option("--format", help="What the rows look like.", rich_help_panel=ROWS, show_default=False)
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(help="tokenizer, none, or a jinja file.", rich_help_panel=ROWS, show_default=False),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(help="Between the cells of csv files: ';'.", rich_help_panel=ROWS, show_default=False),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of files of text, by Python's names: cp1252.", rich_help_panel=ROWS, show_default="UTF-8"),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Configuration of a Hub dataset.", rich_help_panel=ROWS, show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The one that all is made of; else train, with the data's own validation and test if any.",
            rich_help_panel=ROWS,
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Data to validate on; else cut.", rich_help_panel=ROWS, show_default=False)
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Data to test on; else cut.", rich_help_panel=ROWS, show_default=False)
    ] = None,
) -> None:
    """Write a sweep file for a model and data, commented, with ranges that suit them; starts nothing."""
    with clear_errors():
        if (prompt is None) != (target is None):
            raise typer.BadParameter("--prompt and --target go together: give both, or neither")
        if prompt is not None and rows is not None:
            raise typer.BadParameter("--format has no effect beside --prompt and --target; remove it")
        if rows is not None and task is Task.TEXT_CLASSIFICATION:
            raise typer.BadParameter(
                "--format has no effect with --task text_classification; give --prompt and --target"
            )
        for option, value in (("--model", model), ("--data", data), ("--storage", storage)):
            if value is not None and not value.strip():
                raise typer.BadParameter(f"{option} is empty")
        from torch.cuda import is_available

        from prunedlora.config.load import load_sweep
        from prunedlora.sweep.init_plan import InitOptions, lines, write_sweep

        written = write_sweep(
            InitOptions(
                model=model,
                data=data,
                has_gpu=is_available() if gpu is None else gpu,
                task=task,
                prompt=prompt,
                target=target,
                row_format=rows,
                chat_template=chat_template,
                subset=subset,
                split=split,
                validation=validation,
                test=test,
                delimiter=delimiter,
                encoding=encoding,
                storage=storage,
                output=output,
            )
        )
        console = Console()
        for line in lines(written, load_sweep(written.path)):
            print_plain(console, line)
