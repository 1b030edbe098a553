"""Local (and NFS) files written whole: beside their target, synced, and then put in its place."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""What file systems say that have no hard links (FAT, SMB, many FUSE ones)."""


def replace_file(target: Path, content: bytes) -> None:
    """Writes a file, or puts it in the place of another; readers see the one or the other. Raises OSError."""
    with _written_beside(target, content) as temporary:
        os.replace(temporary, target)
    sync_folder(target.parent)


def create_file(target: Path, content: bytes) -> bool:
    """Writes a file that is not there yet; False where there is one. Of several processes, on several machines too, one
    gets True. Readers see it whole, but where there are no hard links: there a kill may leave a part. Raises OSError.
    """
    with _written_beside(target, content) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            # Over NFS a call whose answer is lost is made again, and then finds what it made.
            if not os.path.samefile(temporary, target):
                return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_without_links(target, content)
    sync_folder(target.parent)
    return True


def beside(target: Path) -> Path:
    """A new name in the folder of `target`, which listings of a store leave out."""
    return target.parent / f"{TEMPORARY}{secrets.token_hex(8)}-{target.name}"


def sync_folder(folder: Path) -> None:
    """Until the names in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_without_links(target: Path, content: bytes) -> bool:
    try:
        _write_new(target, content)
    except FileExistsError:
        return False
    sync_folder(target.parent)
    return True


@contextmanager
def _written_beside(target: Path, content: bytes) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(target)
    try:
        _write_new(temporary, content)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    """It is on the disk then. Raises FileExistsError where there is one."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
