"""What names on the Hub stand for: asked of the Hub, or read where its files are cached."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from prunedlora.config.pins import HubName
from prunedlora.trial.commits import CommitError, find_commits
from tests.delivery.hub import Hub, logged_in, running_hub

FIRST, SECOND = "a" * 40, "b" * 40
MODEL = HubName("model", "some/base", None, "config.json")
TAGGED = HubName("model", "some/base", "v1", "config.json")
DATA = HubName("dataset", "some/data", None, None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        logged_in(monkeypatch, hub, tmp_path)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def cache(folder: Path, commit: str, revision: str = "main") -> None:
    repo = folder / "cache" / "models--some--base"
    for path, text in ((f"snapshots/{commit}/config.json", "{}"), (f"refs/{revision}", commit)):
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_text(text)


def test_the_hub_is_asked(hub: Hub) -> None:
    hub.heads = {"models/some/base": FIRST, "models/some/base@v1": SECOND, "datasets/some/data": SECOND}
    assert find_commits([MODEL, TAGGED, DATA]) == {
        "model some/base": FIRST,
        "model some/base@v1": SECOND,
        "dataset some/data": SECOND,
    }


def test_what_the_hub_refuses_is_named(hub: Hub) -> None:
    for wanted in (MODEL, DATA):
        reason = rf"\(looked for .*\), and the Hub does not tell the commit of {wanted.text}: .*404"
        message = f"'{wanted.name}' does not exist here {reason}"
        with pytest.raises(CommitError, match=message):
            find_commits([wanted])


@pytest.mark.parametrize("offline", [True, False])
def test_without_the_hub_a_models_commit_is_that_of_the_cache(
    offline: bool, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_commits([MODEL, DATA]) == {"model some/base": None, "dataset some/data": None}
    cache(tmp_path, FIRST)
    cache(tmp_path, SECOND, "v1")
    assert find_commits([MODEL, TAGGED, DATA]) == {
        "model some/base": FIRST,
        "model some/base@v1": SECOND,
        "dataset some/data": None,
    }


def test_a_file_of_a_dataset_has_its_commit_in_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = DATA._replace(file="d/x.csv")
    hub.heads = {"datasets/some/data": SECOND}
    assert find_commits([file]) == {"dataset some/data": SECOND}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_commits([file]) == {"dataset some/data": None}
    repo = tmp_path / "cache" / "datasets--some--data"
    for path, text in ((f"snapshots/{FIRST}/d/x.csv", "a"), ("refs/main", FIRST)):
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_text(text)
    assert find_commits([file]) == {"dataset some/data": FIRST}
