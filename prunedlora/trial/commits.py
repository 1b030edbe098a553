"""Commits: what names on the Hub stand for now, asked once per sweep."""

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from prunedlora.config.pins import HubName
from prunedlora.hub_access import access_hint
from prunedlora.missing_path import looked_for

SECONDS = 30.0


class CommitError(ValueError):
    """A name whose commit the Hub does not tell; the message says why."""


def find_commits(names: Iterable[HubName]) -> dict[str, str | None]:
    """HubName.text → commit. Asks the Hub; offline, or where it cannot be reached, that of a model, or of one file of
    a dataset, is that of the local cache, which is what loading takes then.

    None for what only loading will tell: what is neither there nor here, and offline a whole dataset, whose library has
    a cache of its own without commits. Data are held to what they were by their fingerprint as well.

    Raises CommitError for what the Hub refuses (no such name or revision, no access) and the cache does not have.
    """
    return {name.text: _commit(name) for name in names}


def _commit(name: HubName) -> str | None:
    if constants.HF_HUB_OFFLINE:
        return _cached(name)
    try:
        info = HfApi().repo_info(name.name, repo_type=name.kind, revision=name.revision, timeout=SECONDS)
    except Exception as error:  # without network its type depends on the HTTP library of the client's version
        cached = _cached(name)
        if cached is None and isinstance(error, HfHubHTTPError):
            raise CommitError(
                f"{name.name!r} does not exist here ({looked_for(name.name)}), and the Hub does not tell the commit of "
                f"{name.text}: {error}{access_hint(error)}"
            ) from error
        return cached
    return info.sha


def _cached(name: HubName) -> str | None:
    if name.file is None:
        return None
    path = try_to_load_from_cache(name.name, name.file, revision=name.revision, repo_type=name.kind)
    if not isinstance(path, str):
        return None
    parts = Path(path).parts
    return parts[len(parts) - 1 - parts[::-1].index("snapshots") + 1]
