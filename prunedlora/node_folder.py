"""Folders of this node's own, in which whoever comes first writes a file and all processes of the node read it.

They lie in `prunedlora-<user id>` where Python puts temporary files (TMPDIR) and stay for the next sweep. Whoever
writes a file removes those that nobody has opened for a day, and the oldest ones while all together take more than a
tenth of the disk. That takes nothing from a process that has one open.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNUSED_SECONDS = 24 * 3600.0
MOST_OF_DISK = 0.1
LOCK, PART = ".lock", ".part"
"""Endings of what is no file to be read."""


class NodeFolderError(OSError):
    """This node cannot keep such files; `errno` is the system's."""


def node_folder(name: str, what: str) -> Path:
    """This user's folder of that name on this node; `what` is what messages call its content. Raises NodeFolderError
    where there can be none, or others may write to it."""
    try:
        own = Path(tempfile.gettempdir()) / f"prunedlora-{os.getuid()}"
        folder = own / name
        with suppress(FileExistsError):  # a file or a link too; what it is is looked at below
            own.mkdir(mode=0o700)
        found = own.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise NodeFolderError(
                errno.EACCES,
                f"the folder of {what} must be a folder of user {os.getuid()} that no one else may enter (mode "
                f"700), it is of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}: remove it, or let "
                "TMPDIR name another place",
                str(own),
            )
        folder.mkdir(mode=0o700, exist_ok=True)
    except NodeFolderError:
        raise
    except OSError as error:
        raise NodeFolderError(
            error.errno,
            f"there can be no folder of {what} ({error.strerror or error}); TMPDIR names another place",
            error.filename,
        ) from error
    return folder


@contextmanager
def told(folder: Path, what: str) -> Iterator[None]:
    """The system's errors with what to do about them."""
    try:
        yield
    except OSError as error:
        free = f", {shutil.disk_usage(folder).free / 1e6:,.0f} MB are free" if folder.is_dir() else ""
        raise NodeFolderError(
            error.errno,
            f"cannot write the {what}{free} ({error.strerror or error}); TMPDIR names another place",
            str(folder),
        ) from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits for the process that is at work on this file. Spares work and nothing else: files appear whole, so that it
    does no harm if a lock that is tidied away has two owners."""
    with path.with_suffix(LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """An empty file to fill, which then appears under its name, whole and on disk; what was not finished is removed."""
    handle, name = tempfile.mkstemp(PART, path.stem, path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def tidy(newest: Path) -> None:
    """Removes what nobody has used for long, and the oldest files where there is too much; never the newest."""
    folder, files = newest.parent, []
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process tidies too
            found = file.stat()
            files.append((found.st_mtime, found.st_blocks * 512, file))
    oldest, total = time.time() - UNUSED_SECONDS, sum(size for _, size, _ in files)
    most = MOST_OF_DISK * shutil.disk_usage(folder).total
    for used, size, file in sorted(files):
        if file != newest and (used < oldest or (total > most and file.suffix not in (LOCK, PART))):
            file.unlink(missing_ok=True)
            total -= size
