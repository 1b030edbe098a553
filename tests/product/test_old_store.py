"""Stores that earlier versions wrote: read and exported from as they are, and not gone on with."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from prunedlora.config.identity import KEY_VERSION
from prunedlora.delivery.stored_adapter import AS_RECORDED
from tests.tiny import minilm_folder

Run = Callable[..., subprocess.CompletedProcess[str]]
PRUNEDLORA = str(Path(sys.executable).with_name("prunedlora"))


REFUSED = "vLLM would refuse it, since it carries a head of its own"
"""What newer reports say of all adapters there."""


def front_of(store: Path) -> dict[str, Any]:
    """What `report` wrote, without the places where adapters lie, which moved with the store, and without what says
    where on its training a candidate was made, which schema 1 had another field for; no candidate there was cut, or
    made of an adapter that existed."""
    document: dict[str, Any] = json.loads((store / "report" / "front.json").read_text())
    del document["recommended"]["path"]
    for point in (*document["front"], document["recommended"]):
        del point["adapter_path"]
        point.pop("candidate", None)
        made = ("truncated_rank", "rung", "branch_steps", "cut", "cut_basis", "cut_allocation", "cut_unit", "cut_size")
        assert [point.pop(name, None) for name in made] == [None] * len(made)
        assert not point.pop("is_original", False)
        assert not point.pop("confirms", False)
        assert point.pop("vllm", REFUSED) == REFUSED
        beside = (
            "times_smaller_than_original",
            *(f"difference_from_original{end}" for end in ("", "_stderr", "_paired")),
        )
        assert [point.pop(name, None) for name in beside] == [None] * len(beside)
    return document


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_report_gives_the_front_that_was_reported(run: Run, old_sweep: tuple[Path, Path]) -> None:
    _, store = old_sweep
    recorded, trials = front_of(store), contents(store / "trials")
    assert len(recorded["front"]) > 1
    output = run(PRUNEDLORA, "report", str(store)).stdout
    found = front_of(store)
    assert {name: found[name] for name in recorded} == recorded
    assert all(point["key"] in output for point in recorded["front"])
    assert "<html" in (store / "report" / "report.html").read_text()
    assert contents(store / "trials") == trials


def test_search_is_refused_with_words_and_changes_nothing(old_sweep: tuple[Path, Path]) -> None:
    """Its settings meant other results: what would be trained now must not stand on one front with it."""
    sweep, store = old_sweep
    before = contents(store)
    for more in ((), ("--dry-run",)):
        command = [PRUNEDLORA, "search", str(sweep), "--storage", str(store), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"its trials have keys of version 1, this one makes version {KEY_VERSION}" in done.stderr
        assert (
            "It can be read, reported, compared and exported as it is; to search, give another --storage" in done.stderr
        )
    assert contents(store) == before


def test_export_writes_an_adapter_that_peft_loads(run: Run, old_sweep: tuple[Path, Path], tmp_path: Path) -> None:
    """Of a pruned trial's milestone: ranks that differ between the layers."""
    _, store = old_sweep
    (record, *_) = (
        record
        for record in map(json.loads, (path.read_text() for path in sorted(store.glob("trials/*/record.json"))))
        if record["config"]["adapter"]["method"] == "prunedlora"
    )
    name = f"{record['key']}@{record['candidates'][0]['step']}"
    output = run(PRUNEDLORA, "export", str(store), name, "--to", str(tmp_path / "adapter")).stdout
    assert f"weights_file: {AS_RECORDED}" in output
    assert "max_logit_difference_merged" in output

    base = AutoModelForSequenceClassification.from_pretrained(minilm_folder(), num_labels=7).eval()
    inputs = {"input_ids": torch.tensor([[101, 2023, 102]])}
    with torch.no_grad():
        before = base(**inputs).logits
        model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        assert not torch.allclose(model(**inputs).logits, before, atol=0.1)
    ranks = {name: len(tensor) for name, tensor in model.named_parameters() if "lora_A" in name}
    assert sorted(ranks.values()) == sorted(rank for rank in record["candidates"][0]["ranks"].values() if rank)
