"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

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
