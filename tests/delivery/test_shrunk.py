"""An adapter that exists, really cut and really trained on: its report, its card and its certificate."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import trial_with
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.report.overview import overview
from prunedlora.results.report.report import write_report
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import sweep_tree

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CUTS = {"sizes": {"parameters": [500, 200]}, "screen_examples": None}
LADDER = {
    "schedule": {"name": "ladder", "trunk": 0, "rungs": {"parameters": [500, 200]}},
    "basis": "svd",
    "allocation": "global_per_parameter",
    "min_rank": 0,
}


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """A LoRA of a few steps, in one store; what was made of it without training, and by a ladder, in one each."""
    folder, assets = tmp_path_factory.mktemp("shrunk"), AssetCache(CPU)
    tree = sweep_tree(folder, "unused")
    tree["trial"]["evaluation"] |= {"milestones": []}
    names = {}

    def made(name: str, values: dict[str, Any]) -> Store:
        store = Store(str(folder / name))
        store.create_or_open(tree | {"name": name, "storage": store.uri, "recommend_within": 0.5})
        trial = trial_with(parse_sweep(tree, "test").trial, {"pruning": None} | values)
        execute_trial(
            trial, trial_key(trial), store=store, assets=assets, workers=Workers(0, 1, CPU), epoch=1, max_attempts=1,
            report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
        )  # fmt: skip
        record = store.read_record(trial_key(trial))
        assert record is not None
        assert record.status == "completed", record.failure
        names[name] = record.key
        return store

    made("plain", {"adapter.method": "lora", "training.num_steps": 6})
    adapter = {"start_from": f"store:{folder}/plain/{names['plain']}@6", "head_modules": ["pooler", "classifier"]}
    return {
        "cut": made("cut", {"adapter": adapter | {"method": "lora"}, "training.num_steps": 0, "cuts": CUTS}),
        "ladder": made(
            "ladder",
            {
                "adapter": adapter | {"method": "prunedlora"}, "training.num_steps": 8, "pruning": LADDER,
                "cuts": CUTS | {"at": "start"},
            },
        ),
    }  # fmt: skip


def printed(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(overview(summary))
    assert all(len(line) <= 80 for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_cuts_alone_are_reported_beside_the_original(shrunk: dict[str, Store]) -> None:
    summary = write_report(shrunk["cut"])
    (original,) = summary.originals.values()
    assert {one.paired for one in summary.beside.values()} == {True}
    assert len(summary.beside) == 2
    text = printed(summary)
    assert "Cost: 1 trial without training, " in text
    assert "of measuring candidates" in text
    assert "tokens/s" not in text
    assert f"{original.candidate.adapter_params:,} " in text
    assert "smaller than the adapter that it began with (store:" in text


def test_a_ladder_shows_cut_and_trained_on_at_one_size(shrunk: dict[str, Store]) -> None:
    summary = write_report(shrunk["ladder"])
    assert {one.paired for one in summary.beside.values()} == {True}
    text = printed(summary)
    for made in (" original 0 ", " cut 0 ", " 1/2 trained on ", " 2/2 trained on 8 "):
        assert made in text
    assert "Cost: 1 training, " in text


def test_the_card_of_a_cut_names_the_adapter_by_its_content(shrunk: dict[str, Store], tmp_path: Path) -> None:
    store = shrunk["cut"]
    (record,) = store.records()
    cut = record.candidates[-1]
    export_candidate(store, f"{record.key}@{cut.name}", tmp_path / "out", check=False)
    text = " ".join((tmp_path / "out" / "README.md").read_text().split())
    origin = json.loads((tmp_path / "out" / "certificate.json").read_text())["origin"]
    assert f"sha256 {origin['sha256']}: cut alone, and not trained on." in text
    assert "2,688 parameters) to at most 200 parameters, by svd" in text
    assert "and not trained on. On the validation split the original has accuracy" in text
    assert (origin["steps"], origin["original"]["candidate"]) == (0, f"{record.key}@0")
    assert origin["original"]["figures"] == json.loads(record.candidates[0].model_dump_json())["figures"]
