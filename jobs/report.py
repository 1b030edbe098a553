"""Front, table and report of a store: `python jobs/report.py runs/quickstart`."""

import typer

from prunedlora.cli import report

typer.run(report)
