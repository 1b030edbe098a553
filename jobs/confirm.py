"""Confirm what a decision hangs on: `python jobs/confirm.py STORE`, or the same behind `ray job submit … --`."""

import typer

from prunedlora.cli import confirm

typer.run(confirm)
