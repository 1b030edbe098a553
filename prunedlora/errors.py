"""Errors as people see them on the command line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

import typer
from rich.console import Console
from rich.text import Text


def show_anything() -> None:
    """From here on, what a terminal cannot show, a ± in ASCII, is a ? there and no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def clear_errors() -> Iterator[None]:
    """The package's own errors are messages for people and are told in a few lines; others keep their traceback. The
    terminal is one that shows anything."""
    show_anything()
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("prunedlora."):
            raise
        Console(stderr=True).print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True)
        raise typer.Exit(2) from error
