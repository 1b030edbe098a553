"""The `prunedlora` command. Its verbs are functions in verbs/, by what they work on: sweeps, stores, adapters.

Everything heavy is imported inside them, so that `--help` answers at once. The scripts in jobs/ do the same as the
verbs of their names, for `ray job submit`.
"""

import typer

from prunedlora.verbs.adapter_verbs import export, harness, latency, serving
from prunedlora.verbs.store_verbs import compare, recommend, report
from prunedlora.verbs.sweep_verbs import search, train

__all__ = ["app", "report", "search", "train"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
for verb in (search, train, report, recommend, compare, export, serving, latency, harness):
    app.command()(verb)


if __name__ == "__main__":
    app()
