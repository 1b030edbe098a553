"""A refusal of the Hub is told with how the token reaches the nodes, however deep it lies in other errors."""

from unittest.mock import Mock

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from prunedlora import hub_access
from prunedlora.hub_access import access_hint


def refusal(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    error = kind("no", response=Mock(status_code=status, headers={}))
    error.response.status_code = status
    return error


def wrapped(cause: Exception) -> OSError:
    error = OSError("You are trying to access a gated repo.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("token", "words"), [(None, "has no token"), ("x", "has a token whose account may not read")])
def test_a_refusal_says_where_the_token_goes(token: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_access, "get_token", lambda: token)
    for error in (refusal(GatedRepoError, 403), refusal(HfHubHTTPError, 401), refusal(HfHubHTTPError, 403)):
        for told in (error, wrapped(error)):
            hint = access_hint(told)
            assert words in hint
            assert "give every node a token of that account, as HF_TOKEN in the environment that Ray is" in hint


def test_other_errors_have_no_hint() -> None:
    assert access_hint(OSError("no such file")) == ""
    assert access_hint(wrapped(refusal(HfHubHTTPError, 500))) == ""
