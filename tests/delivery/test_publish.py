"""An exported folder goes to the Hub as it is; what stands in the way is told before any work where it can be."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from prunedlora.delivery.publish import PushError, check_push, push
from tests.delivery.hub import Hub, logged_in, running_hub

PUSH = """
import sys
from pathlib import Path
from prunedlora.delivery.publish import check_push, push
check_push("me/small")
print(push(Path(sys.argv[1]), "me/small", private=True, message="Adapter of trial abc"))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md", "certificate.json"):
        (tmp_path / "adapter" / name).write_bytes(f"content of {name}".encode())
    return tmp_path / "adapter"


def test_exactly_the_folder_in_one_commit(hub: Hub, folder: Path) -> None:
    """In a process of its own, with the client's usual settings: it reads them when it is imported. Small files go
    inside the commit and, by LFS, the weights."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    settings = {"HF_HOME": str(folder.parent), "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_me"}
    command = [sys.executable, "-c", PUSH, str(folder)]
    done = subprocess.run(command, env=clean | settings, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{hub.url}/me/small"
    assert hub.private == {"me/small": True}
    assert hub.commits == ["Adapter of trial abc"]
    assert hub.files == {"me/small": {path.name: path.read_bytes() for path in folder.iterdir()}}
    assert list(hub.stored.values()) == [b"content of adapter_model.safetensors"]


def test_again_with_other_content(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second commit on what is there; what only the repository has stays."""
    logged_in(monkeypatch, hub, folder.parent)
    push(folder, "me/small", private=False, message="first")
    hub.files["me/small"]["note.txt"] = b"mine"
    (folder / "certificate.json").write_text("{}")
    assert push(folder, "me/small", private=False, message="second") == f"{hub.url}/me/small"
    assert hub.commits == ["first", "second"]
    assert hub.files["me/small"]["certificate.json"] == b"{}"
    assert hub.files["me/small"]["note.txt"] == b"mine"


def test_a_public_repository_is_not_taken_for_a_private_one(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(monkeypatch, hub, folder.parent)
    hub.files["me/open"], hub.private["me/open"] = {}, False
    with pytest.raises(PushError, match="me/open is there already and is public; nothing was pushed"):
        push(folder, "me/open", private=True, message="")
    assert hub.files == {"me/open": {}}


@pytest.mark.parametrize(
    ("repo_id", "token", "endpoint", "message"),
    [
        (
            "me/x",
            "hf_other",
            None,
            "the Hub does not accept the token: log in again (`hf auth login`), or set HF_TOKEN",
        ),
        ("you/x", "hf_me", None, "the token may not write there: it needs write permission for that owner"),
        ("me/x", "hf_me", "http://127.0.0.1:9", "ConnectError: "),
    ],
)
def test_what_the_hub_refuses(
    hub: Hub,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    repo_id: str,
    token: str,
    endpoint: str | None,
    message: str,
) -> None:
    logged_in(monkeypatch, hub, folder.parent)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint or hub.url)
    with pytest.raises(PushError) as caught:
        push(folder, repo_id, private=False, message="")
    found = str(caught.value)
    assert found.startswith(f"cannot push to {repo_id!r} at {endpoint or hub.url}: {message}")
    assert found.endswith(f"\nThe adapter is in {folder}; `hf upload {repo_id} {folder}` pushes it later.")
    assert hub.files == {}


def test_what_is_known_without_network(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in(monkeypatch, hub, tmp_path)
    check_push("me/small")
    for bad in ("a/b/c", "me/", "me/x y"):
        with pytest.raises(PushError, match=f"cannot push to '{bad}', write OWNER/NAME: "):
            check_push(bad)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PushError, match="not logged in; run `hf auth login`, or set HF_TOKEN"):
        check_push("me/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PushError, match="cannot push to 'me/small': HF_HUB_OFFLINE is set"):
        check_push("me/small")
