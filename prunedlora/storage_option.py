"""What --storage means, for every command that has it."""

import typer


def given_storage(storage: str | None, default: str, option: str = "--storage") -> str:
    """The option's value, or `default` where it is not given.

    Raises BadParameter for an empty one (an unset variable of the shell), which must not count as not given.
    """
    if storage is not None and not storage.strip():
        raise typer.BadParameter(f"{option} is empty")
    return default if storage is None else storage
