"""The `prunedlora` command. Its verbs are functions beside this file, by what they work on: sweeps, stores, adapters.

Everything heavy is imported inside them, so that `--help` answers at once. The scripts in jobs/ do the same as the
verbs of their names, for `ray job submit`.
"""

from typing import Annotated

import typer

from prunedlora import __version__
from prunedlora.cli.adapter_verbs import export, harness, latency, serving
from prunedlora.cli.confirm_verbs import confirm, on_test
from prunedlora.cli.init_verb import init
from prunedlora.cli.shrink_verb import shrink
from prunedlora.cli.store_verbs import compare, recommend, report
from prunedlora.cli.sweep_verbs import plan, search, show_data, train
from prunedlora.errors import show_anything

__all__ = ["app", "confirm", "report", "search", "train"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
for verb in (
    init,
    search,
    train,
    plan,
    shrink,
    show_data,
    report,
    recommend,
    confirm,
    compare,
    export,
    serving,
    latency,
    harness,
):
    app.command()(verb)
app.command("test")(on_test)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prunedlora {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """How small can a LoRA adapter be, for a task, and which settings get there?"""
    show_anything()  # the help of a verb, which no verb's own code prints
