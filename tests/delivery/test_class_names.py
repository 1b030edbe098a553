"""Twelve classes called 0 to 11: what people read off the logits is what was trained, now and from an old store."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_latency import Shape, measure_latencies
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.card import card
from prunedlora.delivery.form import Form
from prunedlora.results.analysis.tested import TEST_FILE, read_test
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.finish import export_recommended
from prunedlora.tasks import text_classification
from prunedlora.tasks.data_error import DataError
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache, load_task
from prunedlora.trial.execute import execute_trial
from tests.tiny import WORDS, make_model

ALONE = Workers(0, 1, torch.device("cpu"))
WORD_OF = (*WORDS, "moon", "tree", "bird", "lamp")
"""One for each class: a task that a few steps learn."""


def train(folder: Path, model: str, target_text: Callable[[int], str] = str) -> tuple[Store, TrialConfig, str]:
    rows = [{"text": f"{WORD_OF[i % 12]} {i}", "label": target_text(i % 12)} for i in range(12 * 15)]
    (folder / "data.json").write_text(json.dumps(rows))
    tree = {
        "name": "classes", "storage": str(folder / "store"),
        "objectives": {"accuracy": "maximize", "adapter_params": "minimize"}, "num_trials": 1,
        "trial": {
            "model": {"name": model,
                      "config_overrides": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}},
            "data": {"task": "text_classification", "num_validation": 30, "num_test": 40,
                     "train": {"name": str(folder / "data.json"), "prompt": "{text}", "target": "{label}"}},
            "adapter": {"method": "lora", "initial_rank": 4, "alpha": 8, "head_modules": ["pooler", "classifier"]},
            "optimizer": {"learning_rate": 5e-3, "head_learning_rate": 5e-3},
            "training": {"num_steps": 120, "batch_size": 24},
            "evaluation": {"metric": "accuracy"},
        },
        "space": {"optimizer.learning_rate": {"log_uniform": [1e-3, 1e-2]}},
    }  # fmt: skip
    sweep = parse_sweep(tree, "test")
    store = Store(str(folder / "store"))
    store.create_or_open(tree)
    trial, key = sweep.trial, trial_key(sweep.trial)
    execute_trial(
        trial, key, store=store, assets=AssetCache(ALONE.device), workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    return store, trial, key


def read(store: Store, key: str) -> TrialRecord:
    record = store.read_record(key)
    assert record is not None
    return record


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialConfig, str]:
    folder = tmp_path_factory.mktemp("classes")
    return train(folder, str(make_model(folder / "model")))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialConfig, str]:
    """Trained when labels were sorted as text."""
    folder = tmp_path_factory.mktemp("old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_classification, "class_order", lambda labels: sorted(set(labels)))
        return train(folder, str(make_model(folder / "model")))


def by_number(labels: list[Any]) -> dict[str, Any]:
    return {str(number): label for number, label in enumerate(labels)}


def validation_rows(trial: TrialConfig, file: Path) -> Path:
    """The validation split as a file of rows."""
    splits, _ = load_task(trial)
    file.write_text(json.dumps([{"text": e.prompt, "label": e.target} for e in splits.validation]))
    return file


def run_snippet(folder: Path, more: str) -> str:
    """What the card's code prints in the exported folder, in a process that knows nothing of us, with `more` after."""
    code = (folder / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code + more], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ACCURACY = """
import json
rows = json.load(open({data!r}))
right = 0
for row in rows:
    logits = model(**tokenizer(row["text"], return_tensors="pt")).logits
    right += id2label[int(logits.argmax())] == row["label"]
    assert model.config.id2label == id2label
print("share", right / len(rows))
"""


def test_the_order_is_that_of_the_numbers(trained: tuple[Store, TrialConfig, str]) -> None:
    store, _, key = trained
    assert read(store, key).environment.model["labels"] == [str(i) for i in range(12)]


@pytest.mark.parametrize(
    ("age", "form"),
    [("trained", Form()), ("old", Form()), pytest.param("old", Form(merged=True), marks=pytest.mark.slow)],
    ids=["new", "old", "merged"],
)
def test_the_cards_code_gives_the_labels(age: str, form: Form, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store, trial, key = request.getfixturevalue(age)
    record, to = read(store, key), tmp_path / "a"
    facts = export_candidate(store, key, to, check=True, form=form)
    assert facts["weights_file"]
    printed = run_snippet(to, ACCURACY.format(data=str(validation_rows(trial, tmp_path / "rows.json"))))
    accuracy = record.candidates[-1].figures["accuracy"].value
    assert accuracy > 0.9
    assert float(printed.split("share ")[1]) == pytest.approx(accuracy, abs=1e-9)
    labels = record.environment.model["labels"]
    assert isinstance(labels, list)
    assert labels[2] == ("2" if age == "trained" else "10")
    if form.merged:
        assert json.loads((to / "config.json").read_text())["id2label"] == by_number(labels)
        assert not (to / "labels.json").exists()
    else:
        assert json.loads((to / "labels.json").read_text()) == by_number(labels)
    assert f"Classes, in the order of the logits: 0 `0`, 1 `1`, 2 `{labels[2]}`" in (to / "README.md").read_text()


@pytest.mark.parametrize("age", ["trained", "old"])
def test_the_test_split_and_the_recommended_folder_go_by_the_record(age: str, request: pytest.FixtureRequest) -> None:
    store, trial, key = request.getfixturevalue(age)
    record, assets = read(store, key), AssetCache(ALONE.device)
    last = record.candidates[-1]
    measure_test(trial, key, last.name, store=store, assets=assets, workers=ALONE)
    path = store.trial_path(key, str(last.adapter_path), TEST_FILE)
    assert read_test(store, path).figures["accuracy"].value > 0.9
    exported = export_recommended(store, key, last.name, None)
    labels = record.environment.model["labels"]
    assert isinstance(labels, list)
    assert json.loads(Path(exported.path, "labels.json").read_text()) == by_number(labels)
    measure_latencies(store, [key], Shape(batch_size=1, num_tokens=4, repeat=1), lambda _: None, pytest.fail)


def test_what_is_loaded_serves_where_the_order_is_the_same(
    trained: tuple[Store, TrialConfig, str], old: tuple[Store, TrialConfig, str]
) -> None:
    """A base model is not loaded twice for nothing, and never used with another order."""
    cache, names = AssetCache(ALONE.device), tuple(str(i) for i in range(12))
    first = cache.get(trained[1])
    assert cache.get(trained[1], names) is first
    assert cache.get(trained[1], tuple(sorted(names))).task.labels == tuple(sorted(names))
    assert cache.get(trained[1]).task.labels == names


def test_classes_that_the_data_no_longer_have_are_refused(trained: tuple[Store, TrialConfig, str]) -> None:
    _, trial, _ = trained
    with pytest.raises(
        DataError,
        match=r"have labels that are none of those that data\.labels or the adapter tells: '11'; the data have ch",
    ):
        AssetCache(ALONE.device).get(trial, (*map(str, range(11)), "eleven"))


@pytest.mark.slow
def test_the_cards_code_finds_a_base_inside_a_package(trained: tuple[Store, TrialConfig, str], tmp_path: Path) -> None:
    """`package:` is ours alone: the code looks for the folder itself."""
    store, trial, key = trained
    record = read(store, key)
    (tmp_path / "site" / "some_package").mkdir(parents=True)
    (tmp_path / "site" / "some_package" / "__init__.py").touch()
    (tmp_path / "site" / "some_package" / "inner").symlink_to(trial.model.name)
    config = {**record.config, "model": {**trial.model.model_dump(), "name": "package:some_package/inner"}}
    to = tmp_path / "a"
    export_candidate(store, key, to, check=False)
    told: Any = record.model_copy(update={"config": config})
    text = card(told, record.candidates[-1], {}, Form())
    (to / "README.md").write_text(f"```python\nimport sys\nsys.path.append({str(tmp_path / 'site')!r})\n```")
    head = (to / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = text.split("```python\n")[1].split("```")[0]
    (to / "README.md").write_text(f"```python\n{head}{code}```")
    printed = run_snippet(to, ACCURACY.format(data=str(validation_rows(trial, tmp_path / "rows.json"))))
    accuracy = record.candidates[-1].figures["accuracy"].value
    assert float(printed.split("share ")[1]) == pytest.approx(accuracy, abs=1e-9)
