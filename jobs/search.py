"""Run a sweep: `python jobs/search.py search_spaces/quickstart.yaml`, or the same behind `ray job submit … --`."""

import typer

from prunedlora.cli import search

typer.run(search)
