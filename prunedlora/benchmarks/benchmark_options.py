"""Options that several benchmarks take."""

from pathlib import Path
from typing import Annotated

import typer

SweepFile = Annotated[Path, typer.Option("--sweep", help="Sweep file whose trials are measured.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Replace a field of the sweep: another model, other data, …"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, …")]
NumThreads = Annotated[int, typer.Option(min=1, help="Threads of torch on the CPU.")]
