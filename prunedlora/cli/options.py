"""Arguments and options that several verbs take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prunedlora.sizes import Size


class Dtype(StrEnum):
    """Of an exported adapter (adapters.repack.DTYPES) and of a server's slots (served_slot.NUMBER_BYTES)."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class Split(StrEnum):
    """Of a sweep's data (trial.token_cache.SPLITS)."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Slot(StrEnum):
    """served_slot.SERVED_SLOTS; as text, since typer has no choices that are numbers."""

    R1 = "1"
    R8 = "8"
    R16 = "16"
    R32 = "32"
    R64 = "64"
    R128 = "128"
    R256 = "256"
    R320 = "320"
    R512 = "512"


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
WarmStart = Annotated[
    list[str] | None,
    typer.Option(
        "--warm-start",
        metavar="STORE",
        help="Learn from an earlier sweep's store, of another task, model or space too; give any number. Read once, "
        "when the search begins.",
        show_default=False,
    ),
]
SizeAxis = Annotated[Size | None, typer.Option(help="What is to be small; else the sweep's.", show_default=False)]
ServeOn = Annotated[
    list[str] | None,
    typer.Option(
        "--serve-on",
        metavar="SERVER",
        help="For these servers, as vllm,llama.cpp: what all serve right, in the form that each needs; none: as "
        "trained; else the sweep's.",
        show_default=False,
    ),
]
CANDIDATE_HELP = (
    "KEY (a trial's last as it was trained) or KEY@NAME (180, or 180r4 for a cut), where the beginning of a key will "
    "do; `recommended`, which the report names; or `best`, of the best quality."
)
CandidateArgument = Annotated[
    str | None, typer.Argument(metavar="CANDIDATE", help=CANDIDATE_HELP, show_default="recommended")
]
CandidatesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="CANDIDATE", help=CANDIDATE_HELP, show_default="recommended")
]
Front = Annotated[bool, typer.Option("--front", help="All on the front that can be shipped instead.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Storage of a sweep: a path or URI.")]


def servers_of(given: list[str] | None) -> list[str] | None:
    """The servers that `--serve-on` names, each given alone or several with commas between; [] for none, None where it
    is not given."""
    from prunedlora.servers.known import SERVERS

    if given is None:
        return None
    names = [name for text in given for name in text.split(",")]
    if names == ["none"]:
        return []
    for name in names:
        if name not in SERVERS:
            raise typer.BadParameter(f"--serve-on {name!r} is none of {', '.join(SERVERS)}, or none alone")
        if names.count(name) > 1:
            raise typer.BadParameter(f"--serve-on names {name!r} twice")
    return names


def share_of_quality(text: str) -> float:
    """A difference of quality: a number, or points (hundredths) as in 1pt."""
    number = text.removesuffix("pt")
    try:
        return float(number) / (100.0 if number != text else 1.0)
    except ValueError:
        raise typer.BadParameter(f"--within {text!r} is neither a number (0.01) nor points (1pt)") from None
