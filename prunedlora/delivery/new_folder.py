"""A folder that is to hold an export: made before the work begins, and gone again where the work fails."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunedlora.delivery.form import ExportError


@contextmanager
def new_folder(to: Path) -> Iterator[Callable[[Path], None]]:
    """Makes `to`, and the folders above it, and gives a function that copies a folder's content into it. What was made
    is removed when the block raises.

    Raises ExportError: it is there already, or cannot be made or written.
    """
    made = [folder for folder in (to, *to.parents) if not _is_there(folder)]

    def fill(folder: Path) -> None:
        try:
            shutil.copytree(folder, to, dirs_exist_ok=True)
        except OSError as error:
            raise ExportError(f"{to} cannot be written: {error}") from error

    try:
        to.mkdir(parents=True)
    except FileExistsError as error:
        raise ExportError(f"{to} exists; give a new folder") from error
    except OSError as error:
        _remove(made)
        raise ExportError(f"{to} cannot be made: {error}") from error
    try:
        yield fill
    except BaseException:
        shutil.rmtree(to)
        _remove(made[1:])
        raise


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:  # above it there may be what we may not look into
        return True


def _remove(made: list[Path]) -> None:
    """Removes the folders, innermost first, as far as they are ours alone."""
    with suppress(OSError):
        for folder in made:
            if _is_there(folder):
                folder.rmdir()
