"""Train one configuration: `python jobs/train.py search_spaces/quickstart.yaml --set trial.adapter.initial_rank=8`."""

import typer

from prunedlora.cli import train

typer.run(train)
