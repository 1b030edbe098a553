"""The base model's name in Python, in a shell and in sentences."""

import shlex
from pathlib import Path

from prunedlora.config.identity import looks_local

PACKAGE = "package:"


def shown_name(name: str, hub: str | None) -> str:
    """As people read it. A path of this machine means nothing on the Hub: there it is beside the reader's shell."""
    return f"./{Path(name).name}" if hub is not None and looks_local(name) else name


def base_word(name: str, hub: str | None = None) -> str:
    """As one word of a shell command."""
    if name.startswith(PACKAGE):
        package, _, folder = name.removeprefix(PACKAGE).partition("/")
        found = f'from importlib.util import find_spec; print(find_spec("{package}").submodule_search_locations[0])'
        return f'"$(python -c {shlex.quote(found)})/{folder}"'
    return shlex.quote(_place(name, hub))


def base_expression(name: str, hub: str | None = None) -> str:
    """As a Python expression."""
    if name.startswith(PACKAGE):
        package, _, folder = name.removeprefix(PACKAGE).partition("/")
        return f"str(Path(find_spec({package!r}).submodule_search_locations[0], {folder!r}))"
    return repr(_place(name, hub))


def _place(name: str, hub: str | None) -> str:
    if not looks_local(name):
        return name
    return str(Path(name).expanduser().resolve()) if hub is None else shown_name(name, hub)
