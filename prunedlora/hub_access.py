"""What to do where the Hub does not let a machine in: models and data that are gated or private."""

import socket

from huggingface_hub import get_token
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

REFUSED = (401, 403)


def access_hint(error: BaseException) -> str:
    """To be added to a message: how this machine gets in, where the Hub refused it; empty for any other error.

    The refusal is looked for in the error and in what caused it, since libraries wrap it in errors of their own.
    """
    cause: BaseException | None = error
    while cause is not None and not _is_refusal(cause):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    here = "has no token" if get_token() is None else "has a token whose account may not read it"
    return (
        f"; it is gated, private or not there, and {socket.gethostname()} {here}: ask for access on its page, then "
        "give every node a token of that account, as HF_TOKEN in the environment that Ray is started in (a Ray job: in "
        "env_vars of its runtime environment) or by `hf auth login`"
    )


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, GatedRepoError):
        return True
    # The client's HTTP error, whatever library it is made by.
    return isinstance(error, HfHubHTTPError) and getattr(error.response, "status_code", None) in REFUSED
