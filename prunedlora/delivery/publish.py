"""An exported folder → a model repository on the Hugging Face Hub, through its own client."""

from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

REASONS = {
    401: "the Hub does not accept the token: log in again (`hf auth login`), or set HF_TOKEN",
    403: "the token may not write there: it needs write permission for that owner",
}


class PushError(RuntimeError):
    """A folder that cannot be pushed; the message says why and what would be right."""


def check_push(repo_id: str) -> None:
    """What can be known before there is anything to push, without network. Raises PushError for an id that no
    repository can have, or without its owner, in offline mode, and without a token."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PushError(f"cannot push to {repo_id!r}, write OWNER/NAME: {error}") from error
    if "/" not in repo_id:
        raise PushError(f"cannot push to {repo_id!r}, write OWNER/NAME: its card names the repository")
    if constants.HF_HUB_OFFLINE:
        raise PushError(f"cannot push to {repo_id!r}: HF_HUB_OFFLINE is set")
    if get_token() is None:
        raise PushError(f"cannot push to {repo_id!r}: not logged in; run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repo_id: str, *, private: bool, message: str) -> str:
    """Commits the files in `folder`, as one commit, to a repository that is made if it is not there; returns its URL.

    Files that are in the repository already and not in the folder stay. `private`: False leaves it to the Hub, where a
    new repository is public unless its owner's settings say otherwise.

    Raises PushError: no network, no permission, metadata that the Hub refuses, or a public repository for `private`.
    """
    api = HfApi()
    try:
        url = api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(url.repo_id).private:
            raise PushError(f"{url} is there already and is public; nothing was pushed")
        api.upload_folder(folder_path=folder, repo_id=url.repo_id, commit_message=message)
    except PushError:
        raise
    except Exception as error:  # without network its type depends on the HTTP library of the client's version
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        reason = REASONS.get(status or 0, f"{type(error).__name__}: {error}")
        raise PushError(
            f"cannot push to {repo_id!r} at {api.endpoint}: {reason}\n"
            f"The adapter is in {folder}; `hf upload {repo_id} {folder}` pushes it later."
        ) from error
    return str(url)
