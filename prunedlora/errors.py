"""Errors as people see them on the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text


@contextmanager
def clear_errors() -> Iterator[None]:
    """The package's own errors are messages for people and are told in a few lines; others keep their traceback."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("prunedlora."):
            raise
        Console(stderr=True).print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True)
        raise typer.Exit(2) from error
