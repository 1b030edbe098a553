"""Files elsewhere as data sources: fetched once per node, and then read as local files are.

`hf://datasets/owner/name/path` goes through huggingface_hub and its cache, everything else that fsspec knows (s3://,
gs://, https://, …) into the node's own folder (node_folder.py), under a name made of the address and of what the file
system itself says of the file's state: its entity tag, checksum or time. A process asks for that once per file.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from prunedlora.node_folder import NodeFolderError, alone, appearing, node_folder, tidy
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.file_formats import KNOWN_ENDINGS, split_name

HUB, WEB = "hf", ("http", "https")
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Protocol → the extra of this package that installs what reads it."""
MARKS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest"),
    *("Last-Modified", "LastModified", "updated", "generation", "mtime", "created"),
)
"""What the file systems of fsspec call what changes with a file's content."""
SECONDS_OF_SILENCE = 60
REFUSED = (401, 403)
NO_ACCESS = (
    "; access is refused: give every node credentials that may read it (s3: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY or a role, gs: GOOGLE_APPLICATION_CREDENTIALS); for public s3 data set "
    """FSSPEC_S3='{"anon": true}'"""
)
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://.*", re.DOTALL)
_HUB_FILE = re.compile(
    r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>refs/(convert|pr)/[^/]+|[^/@]+))?/(?P<path>.+)"
)
_FETCHED: dict[str, Path] = {}
"""Address → where this process has found its file."""


class HubFile(NamedTuple):
    """A file in a dataset's repository on the Hub."""

    repo: str
    revision: str | None
    """Branch, tag or commit; None: the default branch."""
    path: str

    def at(self, revision: str) -> str:
        """The file's address at this branch, tag or commit."""
        return f"hf://datasets/{self.repo}@{quote(revision, safe='')}/{self.path}"


def is_remote(name: str) -> bool:
    """Whether a source's name is the address of a file elsewhere."""
    return _ADDRESS.fullmatch(name) is not None


def hub_file(name: str) -> HubFile | None:
    """What the address of a file on the Hub means; None for all other names."""
    found = _HUB_FILE.fullmatch(name)
    if found is None:
        return None
    revision = found["revision"]
    return HubFile(found["repo"], None if revision is None else unquote(revision), found["path"])


def file_name(name: str) -> str:
    """The last part of an address's path, which tells the format: `rows.jsonl.gz` of `https://host/rows.jsonl.gz?a=b`."""
    path = unquote(urlsplit(name).path) if name.startswith(tuple(f"{web}://" for web in WEB)) else name
    return path.rpartition("/")[2]


def address_problem(name: str) -> str | None:
    """What is wrong with an address by itself; None where nothing is."""
    protocol = name.partition("://")[0]
    if protocol == HUB and hub_file(name) is None:
        return (
            f"{name!r} is no file of a dataset on the Hub, hf://datasets/owner/name/path or "
            "hf://datasets/owner/name@revision/path; a whole dataset is named owner/name"
        )
    if not split_name(Path(file_name(name)))[1]:
        return f"file {name!r} has a suffix that is not known, and a folder is not read from elsewhere; {KNOWN_ENDINGS}"
    return None


def fetch(name: str) -> Path:
    """Where the file of an address lies on this node, whole, as it was when this process first asked for it.

    Raises DataError: no file of a known format, not there, no access, no network, its package not installed, changed
    or cut off while it was read; NodeFolderError where this node cannot keep it.
    """
    if (known := _FETCHED.get(name)) is not None and known.is_file():
        return known
    if problem := address_problem(name):
        raise DataError(problem)
    try:
        on_hub = hub_file(name)
        _FETCHED[name] = _from_filesystem(name) if on_hub is None else _from_hub(on_hub)
    except (DataError, NodeFolderError):
        raise
    except Exception as error:  # every file system and every HTTP client has errors of its own
        raise DataError(f"cannot fetch {name!r}: {_reason(name, error)}") from error
    return _FETCHED[name]


def _from_hub(file: HubFile) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(file.repo, file.path, repo_type="dataset", revision=file.revision))


def _from_filesystem(name: str) -> Path:
    filesystem, path = _filesystem(name)
    folder = node_folder("data", "data from elsewhere")
    found = filesystem.info(path)
    if found["type"] != "file":
        raise DataError(f"{name!r} is a folder; name the file of each split")
    mark = _mark(found)
    key = hashlib.sha256(json.dumps([name, mark]).encode()).hexdigest()[:32]
    target = folder / (key + "".join(Path(file_name(name)).suffixes[-2:]).lower())
    with alone(folder / key):
        if mark is not None and target.is_file():
            os.utime(target)
            return target
        with appearing(target) as part:
            filesystem.get_file(path, str(part))
            if _mark(filesystem.info(path)) != mark:
                raise OSError("it changed while it was read")
            size, came = found.get("size"), part.stat().st_size
            if size is not None and size != came:
                raise OSError(f"{came:,} bytes came of {size:,}")
        tidy(target)
    return target


def _filesystem(name: str) -> tuple[Any, str]:
    """An instance of its own, which remembers no listing of what lay there before."""
    import fsspec

    protocol = name.partition("://")[0]
    settings: dict[str, Any] = {}
    if protocol in WEB:
        import aiohttp

        # Its own limit is five minutes for a whole file. Packed in transit a file has another size than it is said to.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS_OF_SILENCE, sock_read=SECONDS_OF_SILENCE)
        settings = {
            "client_kwargs": {"timeout": limits, "trust_env": True},
            "headers": {"Accept-Encoding": "identity"},
        }
    try:
        return fsspec.core.url_to_fs(name, skip_instance_cache=True, **settings)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        ask = str(error) if extra is None else f"pip install 'prunedlora[{extra}]' on every node"
        raise DataError(f"{name!r} needs a package that is not installed: {ask}") from error
    except ValueError as error:
        raise DataError(f"{name!r} cannot be read: {error}") from error


def _mark(found: Mapping[str, Any]) -> str | None:
    """What changes with the file's content, by what the file system says of it; None where it says nothing."""
    marks = {name: str(found[name]) for name in MARKS if found.get(name)}
    return json.dumps([found.get("size"), marks], sort_keys=True) if marks else None


def _reason(name: str, error: Exception) -> str:
    cause = error.__cause__ or error  # of HTTP, fsspec's own says of every failure that the file is not there
    reason = f"{type(cause).__name__}: {cause}"
    if name.startswith(f"{HUB}://"):
        from huggingface_hub import constants

        from prunedlora.hub_access import access_hint

        if constants.HF_HUB_OFFLINE:
            return "HF_HUB_OFFLINE is set, and this machine's cache does not have it"
        return f"{reason}{access_hint(error)}"
    refused = isinstance(cause, PermissionError) or "Credentials" in type(cause).__name__
    return reason + (NO_ACCESS if refused or getattr(cause, "status", None) in REFUSED else "")
