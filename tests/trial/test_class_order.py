"""The order of a head's classes, where an adapter has one that is not sorted: told by data.labels, by a labels.json, or
by the record of a store. The head's rows go with it, and it goes into what is exported."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.results.analysis.tested import TEST_FILE, read_test
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.preflight import preflight
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import WORDS, make_model

ALONE = Workers(0, 1, torch.device("cpu"))
ASSETS = AssetCache(ALONE.device)
ORDER = ["top", "low", "mid"]
"""Of the head of the adapter: the second, the third, the first of the sorted."""
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    words = WORDS[:3]
    return [{"text": f"{words[i % 3]} {i}", "label": ORDER[i % 3]} for i in range(150)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> Path:
    """A model, data, and an adapter that plain PEFT alone has trained and saved."""
    home = tmp_path_factory.mktemp("home")
    make_model(home / "model")
    (home / "data.json").write_text(json.dumps(rows))
    model, tokenizer = base(home), AutoTokenizer.from_pretrained(home / "model")
    fields = {"target_modules": ["query", "value"], "modules_to_save": ["pooler"], "task_type": "SEQ_CLS"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **fields))  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    draw = random.Random(0)
    for _ in range(60):
        some = draw.sample(rows, 24)
        batch = tokenizer([row["text"] for row in some], padding=True, return_tensors="pt")
        adapted(**batch, labels=torch.tensor([ORDER.index(row["label"]) for row in some])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(home / "theirs")
    return home


def base(home: Path) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(home / "model", num_labels=3, **STILL)


@pytest.fixture
def theirs(home: Path, tmp_path: Path) -> Path:
    """A copy of the adapter."""
    return Path(shutil.copytree(home / "theirs", tmp_path / "theirs"))


def tell(folder: Path, labels: list[str]) -> None:
    (folder / "labels.json").write_text(json.dumps({str(number): label for number, label in enumerate(labels)}))


def tree_of(home: Path, name: str, labels: list[str] | None = None) -> dict[str, Any]:
    """A sweep that cuts an adapter and trains nothing."""
    return {
        "name": "order", "storage": str(home / "unused"),
        "objectives": {"accuracy": "maximize", "adapter_params": "minimize"}, "num_trials": 0, "baselines": [{}],
        "trial": {
            "model": {"name": str(home / "model"), "config_overrides": STILL},
            "data": {"task": "text_classification", "num_validation": 45, "num_test": 45, "labels": labels,
                     "train": {"name": str(home / "data.json"), "prompt": "{text}", "target": "{label}"}},
            "adapter": {"method": "lora", "start_from": name, "head_modules": ["pooler", "classifier"]},
            "cuts": {"sizes": {"mean_rank": [2]}},
            "optimizer": {"learning_rate": 5e-3, "head_learning_rate": 5e-3},
            "training": {"num_steps": 0, "batch_size": 24},
            "evaluation": {"metric": "accuracy"},
        },
        "space": {},
    }  # fmt: skip


def run(tree: dict[str, Any], path: Path) -> tuple[Store, TrialConfig, TrialRecord]:
    trial = parse_sweep(tree, "test").trial
    store, key = Store(str(path)), trial_key(trial)
    store.create_or_open(tree)
    execute_trial(
        trial, key, store=store, assets=ASSETS, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record = store.read_record(key)
    assert record is not None
    return store, trial, record


def original(record: TrialRecord) -> float:
    assert record.status == "completed", record.failure
    assert record.candidates[0].is_original
    return record.candidates[0].figures["accuracy"].value


@torch.no_grad()
def by_hand(home: Path, folder: Path, rows: list[dict[str, str]], order: list[str]) -> float:
    """Accuracy of an adapter on all rows, by plain PEFT."""
    model = PeftModel.from_pretrained(base(home), str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    given = model(**batch).logits.argmax(-1).tolist()
    return sum(order[number] == row["label"] for number, row in zip(given, rows, strict=True)) / len(rows)


def test_an_adapter_of_plain_peft_is_right_with_its_own_order_alone(
    home: Path, theirs: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    assert by_hand(home, theirs, rows, ORDER) > 0.95
    store, trial, record = run(tree_of(home, str(theirs), ORDER), tmp_path / "given")
    assert original(record) > 0.95
    assert original(run(tree_of(home, str(theirs)), tmp_path / "sorted")[2]) < 0.5
    assert record.environment.model["labels"] == ORDER
    # On the test split, exported, and on from the store, the same order holds.
    measure_test(trial, record.key, "0", store=store, assets=ASSETS, workers=ALONE)
    path = store.trial_path(record.key, str(record.candidates[0].adapter_path), TEST_FILE)
    assert read_test(store, path).figures["accuracy"].value > 0.95
    for name in ("0", record.candidates[1].name):
        export_candidate(store, f"{record.key}@{name}", tmp_path / name, check=True)
        assert json.loads((tmp_path / name / "labels.json").read_text()) == dict(zip("012", ORDER, strict=True))
    assert by_hand(home, tmp_path / "0", rows, ORDER) == by_hand(home, theirs, rows, ORDER)
    for place, name in {"on": f"store:{store.uri}/{record.key}@0", "exported": str(tmp_path / "0")}.items():
        assert original(run(tree_of(home, name), tmp_path / place)[2]) == original(record)


def test_an_order_beside_the_adapter_is_taken(home: Path, theirs: Path, tmp_path: Path) -> None:
    untold = trial_key(parse_sweep(tree_of(home, str(theirs)), "x").trial)
    tell(theirs, ORDER)
    tree = tree_of(home, str(theirs))
    preflight(parse_sweep(tree, "test"))
    record = run(tree, tmp_path / "store")[2]
    assert original(record) > 0.95
    assert record.key != untold


def test_orders_that_cannot_be(home: Path, theirs: Path, tmp_path: Path) -> None:
    """Before anything starts, and where a trial comes to it."""
    tell(theirs, ORDER)
    said = {
        r"the classes \['top', 'low', 'mid'\], in this order; data.labels has \['low', 'mid', 'top'\]: the head": (
            tree_of(home, str(theirs), sorted(ORDER))
        ),
        r"labels that are none of those that data.labels or the adapter tells: 'top'; the data have changed": (
            tree_of(home, str(home / "theirs"), ["high", "low", "mid"])
        ),
    }
    for number, (message, tree) in enumerate(said.items()):
        with pytest.raises(ValueError, match=message):
            preflight(parse_sweep(tree, "test"))
        record = run(tree, tmp_path / str(number))[2]
        assert record.failure is not None
        assert record.failure.fault == "user"
    tell(theirs, ["high", "low", "mid"])
    with pytest.raises(ValueError, match=r"none of those that data\.labels or the adapter tells: 'top'"):
        preflight(parse_sweep(tree_of(home, str(theirs)), "test"))


def test_an_order_that_nobody_tells_is_told_to_be_unknown(home: Path) -> None:
    unknown = "does not say the order of its classes"
    name = str(home / "theirs")
    (warning,) = (each for each in preflight(parse_sweep(tree_of(home, name), "x")).warnings if unknown in each)
    assert warning.endswith("data.labels sets the order")
    assert not any(unknown in each for each in preflight(parse_sweep(tree_of(home, name, ORDER), "x")).warnings)
