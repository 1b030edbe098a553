"""Whether all processes of a run import the same prunedlora: Ray's workers find it by their own path, and a node, or a
working directory with another checkout in it, may have another one."""

import functools
import hashlib
from pathlib import Path

import prunedlora
from prunedlora.trial.outside_error import OutsideError

Sources = tuple[str, str, str]
"""Version, digest of the package's files, folder: plain data, which any version can read."""


class OtherSourcesError(OutsideError):
    """A process that runs another prunedlora than its driver."""


@functools.cache
def own_sources() -> Sources:
    """Of this process."""
    folder = Path(prunedlora.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return prunedlora.__version__, digest.hexdigest(), str(folder)


def check_sources(drivers: Sources, here: Sources, whose: str) -> None:
    """Raises OtherSourcesError where `whose` sources are not the driver's."""
    if drivers[:2] != here[:2]:
        (version, _, folder), (own_version, _, own_folder) = drivers, here
        if (version, folder) == (own_version, own_folder):
            raise OtherSourcesError(
                f"{whose} imports other files of prunedlora {version} than the driver did: {folder} has changed since "
                "(an edit, a pull); run the same command again"
            )
        raise OtherSourcesError(
            f"{whose} imports prunedlora {own_version} from {own_folder}, the driver {version} from {folder}, and "
            "their files differ: install one version everywhere, and start where no other checkout is on Python's path"
        )
