"""Tokenised splits, each made once per node: whoever comes first writes a file, all processes of all slots map it.

The files lie in a folder of the node's own, `prunedlora-<user id>/tokens` where Python puts temporary files (TMPDIR),
each named after all that decides its content. They stay for the next sweep. Whoever writes one removes those that
nobody has opened for a day, and the oldest ones while all together take more than a tenth of the disk. That takes
nothing from a process that has one open.
"""

import errno
import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import prunedlora.tasks
from prunedlora.checksums import file_sha256
from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Task
from prunedlora.tasks.tokenised import PART, BrokenTokensError, TokenisedSplit, read_tokens, write_tokens

UNUSED_SECONDS = 24 * 3600.0
MOST_OF_DISK = 0.1
PACKAGES = ("tokenizers", "transformers", "sentencepiece", "tiktoken", "mistral-common", "pyarrow")
"""Whose versions may change tokens, or the file."""

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class TokenFolderError(OSError):
    """This node cannot keep tokenised data; `errno` is the system's."""


def tokenised(task: Task, splits: Splits) -> dict[SplitName, TokenisedSplit]:
    """The features of all splits, out of this node's files, which are written where they are not there. Validation and
    test keep their texts, which answers are compared with.

    Raises DataError as `task.encode`, TokenFolderError where the node cannot hold the files.
    """
    folder, code = node_folder(), _code(type(task))
    found: dict[SplitName, TokenisedSplit] = {}
    with _told(folder):
        encoding = task.encoding  # which writes a tokenizer's files, there too
        for split in SPLITS:
            examples: tuple[Example, ...] = getattr(splits, split)
            key = _key([splits.fingerprint, split, _templates(examples), encoding, code, _versions(), PART])
            path = folder / f"{key}.arrow"
            found[split] = _read_or_write(path, task, examples, () if split == "train" else examples)
    return found


def _read_or_write(path: Path, task: Task, examples: Sequence[Example], texts: Sequence[Example]) -> TokenisedSplit:
    with _alone(path.with_suffix(".lock")):
        try:
            split = read_tokens(path, len(examples), texts)
            os.utime(path)
        except (FileNotFoundError, BrokenTokensError):  # of a machine that went down: what it has is written again
            split = _write(path, task, examples, texts)
            _tidy(path)
    return split


def _write(path: Path, task: Task, examples: Sequence[Example], texts: Sequence[Example]) -> TokenisedSplit:
    """Appears whole under its name, and is open before that: whoever tidies comes too late."""
    handle, name = tempfile.mkstemp(".part", path.stem, path.parent)
    os.close(handle)
    part = Path(name)
    try:
        write_tokens(part, task, examples, prompts=bool(texts))
        split = read_tokens(part, len(examples), texts)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return split


def node_folder() -> Path:
    """This user's folder of tokens on this node. Raises TokenFolderError where there can be none, or others may write
    to it."""
    try:
        own = Path(tempfile.gettempdir()) / f"prunedlora-{os.getuid()}"
        folder = own / "tokens"
        with suppress(FileExistsError):  # a file or a link too; what it is is looked at below
            own.mkdir(mode=0o700)
        found = own.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise TokenFolderError(
                errno.EACCES,
                f"the folder of tokenised data must be a folder of user {os.getuid()} that no one else may enter (mode "
                f"700), it is of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}: remove it, or let "
                "TMPDIR name another place",
                str(own),
            )
        folder.mkdir(mode=0o700, exist_ok=True)
    except TokenFolderError:
        raise
    except OSError as error:
        raise TokenFolderError(
            error.errno,
            f"there can be no folder of tokenised data ({error.strerror or error}); TMPDIR names another place",
            error.filename,
        ) from error
    return folder


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The system's errors with what to do about them."""
    try:
        yield
    except OSError as error:
        free = f", {shutil.disk_usage(folder).free / 1e6:,.0f} MB are free" if folder.is_dir() else ""
        raise TokenFolderError(
            error.errno,
            f"cannot write the tokenised data{free} ({error.strerror or error}); TMPDIR names another place",
            str(folder),
        ) from error


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits for the process that is at work on this key. Spares work and nothing else: files appear whole, so that it
    does no harm if a lock that is tidied away has two owners."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


def _tidy(newest: Path) -> None:
    """Removes what nobody has used for long, and the oldest files where there is too much; never the newest."""
    folder, files = newest.parent, []
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process tidies too
            found = file.stat()
            files.append((found.st_mtime, found.st_blocks * 512, file))
    oldest, total = time.time() - UNUSED_SECONDS, sum(size for _, size, _ in files)
    most = MOST_OF_DISK * shutil.disk_usage(folder).total
    for used, size, file in sorted(files):
        if file != newest and (used < oldest or (total > most and file.suffix == ".arrow")):
            file.unlink(missing_ok=True)
            total -= size


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _templates(examples: Sequence[Example]) -> list[Any]:
    """What the examples' templates say themselves, which the fingerprint of their texts does not tell; a row of equal
    ones is one entry."""
    runs = groupby(examples, key=lambda example: (example.prompt_literals, example.target_literals))
    return [[literals, sum(1 for _ in run)] for literals, run in runs]


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@cache
def _code(kind: type) -> str:
    """sha256 over the source of tasks/ and of the task's own file: no version number to forget."""
    files = [file for home in prunedlora.tasks.__path__ for file in sorted(Path(home).glob("*.py"))]
    digests = [file_sha256(file) for file in (*files, Path(inspect.getfile(kind)))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
