"""Whole files on any fsspec filesystem: a reader sees the old content or the new, never half of it.

Local (and NFS) files are written beside their target, synced and renamed. Object stores put whole objects, so a plain
write is atomic there; a folder, which is many objects, counts as there once its marker is, which is put last.
"""

import errno
import inspect
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from prunedlora.results.local_files import TEMPORARY, beside, create_file, replace_file, sync_folder

MARKER = ".complete"
LEAST_BYTES = 2**20
"""Smaller than any sweep."""
REFUSED = (401, 403, 405, 501)
"""Answers over HTTP to a write that is not allowed: without a login, with this one, at all, by this server."""


class StoreError(RuntimeError):
    """Storage that cannot be used as asked; the message names the path and the reason."""


class NotAllowedError(StoreError):
    """Reading or writing that the storage does not allow us: its permissions, or a file system mounted read-only."""


class Storage:
    """Files and folders below one root; paths are relative, with forward slashes."""

    def __init__(self, uri: str) -> None:
        """`uri`: local path, or what fsspec knows (`s3://bucket/prefix`, `gs://…`, `memory://…`).

        Raises StoreError when the protocol is unknown or its package is not installed.
        """
        try:
            # Other processes write here too, so listings must not be cached.
            self._fs, self._root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise StoreError(f"storage {uri!r} cannot be used: {error}") from error
        self._root = self._root.rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self.uri: str = self._root if self.is_local else self._fs.unstrip_protocol(self._root)

    def uri_of(self, path: str) -> str:
        """Absolute local path or URI of `path`, for people and other tools."""
        return f"{self.uri}/{path}" if path else self.uri

    def exists(self, path: str) -> bool:
        with self._named(path):
            if not self.is_local:
                return bool(self._fs.exists(self._full(path)))
            try:
                os.stat(self._full(path))
            except (FileNotFoundError, NotADirectoryError):
                return False  # any other error says nothing about what is there
            return True

    def names(self, path: str) -> list[str]:
        """Names of the files and folders in a folder, sorted; none when there is no such folder."""
        with self._named(path):
            try:
                found = self._fs.ls(self._full(path), detail=False)
            except FileNotFoundError:
                return []
        # Some object stores list a folder's placeholder object among its content.
        names = {PurePosixPath(str(entry)).name for entry in found if str(entry).rstrip("/") != self._full(path)}
        return sorted(name for name in names if not name.startswith(TEMPORARY))

    def read_text(self, path: str) -> str | None:
        """Content of a file, None when there is no such file."""
        return self.read_texts([path])[0]

    def read_awaited_text(self, path: str) -> str | None:
        """As `read_text`, for a file that another machine has just written: an NFS client that has looked for it before
        may remember for a minute that it is not there, until it reads the folder anew."""
        text = self.read_text(path)
        if text is None and self.is_local:
            self.names(path.rpartition("/")[0])
            text = self.read_text(path)
        return text

    def read_texts(self, paths: Sequence[str]) -> list[str | None]:
        """Contents of many files, fetched together where the filesystem can; None for those that do not exist."""
        texts: list[str | None] = []
        # Not `cat`, which would take brackets in a folder's name for a pattern.
        with self._named(paths[0] if len(paths) == 1 else ""):
            contents = self._fs.cat_ranges([self._full(path) for path in paths], None, None, on_error="return")
        for path, content in zip(paths, contents, strict=True):
            with self._named(path):
                if isinstance(content, FileNotFoundError):
                    texts.append(None)
                elif isinstance(content, Exception):
                    raise content
                else:
                    texts.append(content.decode())
        return texts

    def write_text(self, path: str, text: str) -> None:
        """Replaces a file, atomically. Raises StoreError when that fails, NotAllowedError when we may not."""
        self.write_bytes(path, text.encode())

    def write_bytes(self, path: str, content: bytes) -> None:
        """As `write_text`, for what is no text."""
        full = self._full(path)
        with self._named(path):
            if self.is_local:
                replace_file(Path(full), content)
            else:
                self._fs.pipe_file(full, content)

    def create_text(self, path: str, text: str) -> bool:
        """Writes a file that is not there yet, whole; False, and nothing is written, where another one is there.

        Of several that create one at the same moment, exactly one gets True: on local file systems and NFS, on S3 and
        GCS (by conditional writes). Where the server or the package knows no such condition, it is looked for first and
        written then, so that two may get True and the later one's text stays: read it back where that matters.
        A file with this very text counts as ours, since a write whose answer is lost is made again: give the text
        something of its writer where writers must be told apart.

        Raises StoreError as `write_text`.
        """
        full, content = self._full(path), text.encode()
        with self._named(path):
            created = create_file(Path(full), content) if self.is_local else self._create_object(full, content)
        return created or self.read_text(path) == text

    def make_root(self) -> None:
        """Makes the root where it is a local folder that is not there yet; object stores have no folders. Raises
        StoreError when that fails, NotAllowedError when we may not."""
        if self.is_local:
            with self._named(""):
                Path(self._root).mkdir(parents=True, exist_ok=True)

    def check_writable(self) -> None:
        """Whether a local root can be written, or made, and has space; of object stores the first write tells. Writes
        nothing. Raises StoreError when it has no space, NotAllowedError when we may not."""
        if not self.is_local:
            return
        with self._named(""):
            folder = next(folder for folder in (Path(self._root), *Path(self._root).parents) if os.path.lexists(folder))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(f"{folder} may not be written (by user {os.geteuid()})")
            if not folder.is_dir():
                raise NotADirectoryError(f"{folder} is no folder")
            total, _, free = shutil.disk_usage(folder)
            if total == 0:
                raise OSError(f"{folder} is in a file system without any space for files")
            if free < LEAST_BYTES:
                raise OSError(f"{folder} is full: {free} bytes are left")

    def append_text(self, path: str, text: str) -> None:
        """Adds to the end of a file with a single writer; object stores cannot append and write it anew."""
        if not self.is_local:
            self.write_text(path, (self.read_text(path) or "") + text)
            return
        with self._named(path):
            target = Path(self._full(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "ab") as file:  # buffered: a raw write may take a part only, without a word
                file.write(text.encode())

    def folders(self, path: str) -> list[str]:
        """Names of the complete folders in a folder, sorted."""
        return [name for name in self.names(path) if self.has_folder(f"{path}/{name}")]

    def has_folder(self, path: str) -> bool:
        """Whether a folder is there whole, as `upload_folder` leaves it."""
        if not self.is_local:
            return self.exists(f"{path}/{MARKER}")
        return Path(self._full(path)).is_dir()

    def upload_folder(self, local: Path, path: str) -> None:
        """Puts a copy of a local folder at `path` and replaces what is there; readers see it whole or not at all."""
        if not local.is_dir():
            raise StoreError(f"{local} is no folder and cannot be stored as {self.uri_of(path)}")
        with self._named(path):
            if self.is_local:
                self._move_in(local, Path(self._full(path)))
                return
            self._delete_objects(path)
            for file in _files(local):
                self._fs.put_file(str(file), self._full(f"{path}/{file.relative_to(local).as_posix()}"))
            self._fs.pipe_file(self._full(f"{path}/{MARKER}"), b"")

    def download_folder(self, path: str, local: Path) -> None:
        """Copies a complete folder to a local one that does not exist yet. Raises StoreError when it is not there."""
        if not self.has_folder(path):
            raise StoreError(f"{self.uri_of(path)} is not in the store, or only in part")
        with self._named(path):
            if self.is_local:
                shutil.copytree(self._full(path), local)
                return
            local.mkdir(parents=True)
            root = self._full(path)
            for name in self._fs.find(root):
                relative = str(name)[len(root) + 1 :]
                if relative != MARKER:
                    (local / relative).parent.mkdir(parents=True, exist_ok=True)
                    self._fs.get_file(name, str(local / relative))

    def delete_folder(self, path: str) -> None:
        """Removes a folder and all in it; nothing to do when it is not there."""
        with self._named(path):
            if self.is_local:
                target = Path(self._full(path))
                if target.is_dir():
                    # Renamed first, so that a kill in the middle leaves no half folder that looks whole.
                    doomed = beside(target)
                    os.replace(target, doomed)
                    shutil.rmtree(doomed)
            else:
                self._delete_objects(path)

    def _create_object(self, full: str, content: bytes) -> bool:
        """Whether an object was not there and is now."""
        if "mode" in inspect.signature(getattr(self._fs, "_pipe_file", self._fs.pipe_file)).parameters:
            try:
                self._fs.pipe_file(full, content, mode="create")
                return True
            except FileExistsError:
                return False
            except Exception:
                # Refused perhaps for its condition alone, by servers and packages each in its own way.
                pass
        if self._fs.exists(full):
            return False
        self._fs.pipe_file(full, content)
        return True

    def _delete_objects(self, path: str) -> None:
        if self._fs.exists(self._full(f"{path}/{MARKER}")):
            self._fs.rm_file(self._full(f"{path}/{MARKER}"))
        if self._fs.exists(self._full(path)):
            self._fs.rm(self._full(path), recursive=True)

    def _move_in(self, local: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(target)
        try:
            shutil.copytree(local, temporary)
            for file in _files(temporary):
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
            if target.is_dir():
                replaced = beside(target)
                os.replace(target, replaced)
                os.replace(temporary, target)
                shutil.rmtree(replaced)
            else:
                os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(target.parent)

    def _full(self, path: str) -> str:
        if ".." in path.split("/") or path.startswith("/"):
            raise StoreError(f"{path!r} does not lie inside the store {self.uri}")
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            # Packages for object stores raise errors of their own, which cannot be named here.
            if self.is_local and not isinstance(error, OSError | UnicodeDecodeError):
                raise
            kind = NotAllowedError if _is_refusal(error) else StoreError
            raise kind(f"{self.uri_of(path)}: {type(error).__name__}: {error}") from error


def _is_refusal(error: Exception) -> bool:
    """Whether we may not do it. Each package says so in its own way: s3fs by PermissionError; gcsfs by an OSError
    without a number (403), or an error with the answer's `code` (401); fsspec over HTTP by one with its `status`, and
    by NotImplementedError where a file system cannot write at all."""
    if isinstance(error, OSError):
        refused = error.errno is None and str(error).startswith("Forbidden")
        return refused or isinstance(error, PermissionError) or error.errno == errno.EROFS
    answers = (getattr(error, name, None) for name in ("code", "status"))
    return isinstance(error, NotImplementedError) or any(answer in REFUSED for answer in answers)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
