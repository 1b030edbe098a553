"""What is handed over or timed is loaded as on record, whatever today's reader makes of the same data's targets."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_base import RecordedBases, prompt_batch
from prunedlora.results.record import RecordError, TrialRecord
from prunedlora.results.store import Store
from prunedlora.tasks.data_error import DataError
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache, load_task
from prunedlora.trial.execute import execute_trial
from tests.tiny import decoder_tree, sweep_tree

ALONE = Workers(0, 1, torch.device("cpu"))
FORMS = [Form(), Form(uniform=8), Form(merged=True)]


def trained(tree: dict[str, Any]) -> tuple[Store, TrialRecord]:
    store = Store(tree["storage"])
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    execute_trial(
        trial, key, store=store, assets=AssetCache(ALONE.device), workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record = store.read_record(key)
    assert record is not None
    return store, record


def rows_of(file: Path, *labels: Any) -> None:
    """Rows whose labels take turns."""
    rows = [{"text": f"river {i} stone", "label": labels[i % len(labels)]} for i in range(120)]
    file.write_text(json.dumps(rows))


def classifier_tree(folder: Path) -> dict[str, Any]:
    tree = sweep_tree(folder, str(folder / "store"))
    tree["trial"]["data"]["train"]["name"] = str(folder / "truth.json")
    return tree


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialRecord]:
    """A store whose classes are called False and True, as truth values were read; now they are false and true."""
    folder = tmp_path_factory.mktemp("truths")
    rows_of(folder / "truth.json", "True", "False")
    store, record = trained(classifier_tree(folder))
    assert record.environment.model["labels"] == ["False", "True"]
    rows_of(folder / "truth.json", True, False)
    return store, record


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialRecord]:
    """A store of generation whose targets end in the end-of-text token, which was taken at the time."""
    folder = tmp_path_factory.mktemp("ended")
    store, record = trained(decoder_tree(folder, str(folder / "store")))
    data = folder / "questions.json"
    data.write_text(json.dumps([{**row, "answer": f"{row['answer']}<end>"} for row in json.loads(data.read_text())]))
    return store, record


@pytest.mark.parametrize("age", ["truths", "ended"])
@pytest.mark.parametrize("form", FORMS, ids=["plain", "uniform", "merged"])
def test_old_stores_are_exported_with_what_is_on_record(
    age: str, form: Form, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store, record = request.getfixturevalue(age)
    facts = export_candidate(store, record.key, tmp_path / "a", check=True, form=form)
    assert facts["max_logit_difference_merged"] < 1e-3
    if age == "truths":
        file = "config.json" if form.merged else "labels.json"
        found = json.loads((tmp_path / "a" / file).read_text())
        assert (found["id2label"] if form.merged else found) == {"0": "False", "1": "True"}


@pytest.mark.parametrize("age", ["truths", "ended"])
def test_old_stores_are_timed(age: str, request: pytest.FixtureRequest) -> None:
    store, record = request.getfixturevalue(age)
    shape = ["--batch-size", "1", "--num-tokens", "2", "--repeat", "1"]
    done = CliRunner().invoke(app, ["latency", store.uri, record.key, *shape])
    assert done.exit_code == 0, done.output


def test_what_scores_on_the_targets_goes_on_refusing_them(
    truths: tuple[Store, TrialRecord], ended: tuple[Store, TrialRecord]
) -> None:
    for (store, record), message in (
        (truths, "labels that are none of those that data.labels or the adapter tells"),
        (ended, "end-of-text token"),
    ):
        trial, last = parse_sweep(store.read_sweep(), "test").trial, record.candidates[-1].name
        assets = AssetCache(ALONE.device)
        with pytest.raises(DataError, match=message):
            measure_test(trial, record.key, last, store=store, assets=assets, workers=ALONE)


def test_the_prompts_are_those_of_the_data_as_anyone_would_tokenise_them(ended: tuple[Store, TrialRecord]) -> None:
    store, record = ended
    trial = parse_sweep(store.read_sweep(), "test").trial
    with pytest.raises(DataError):
        load_task(trial)
    batch = prompt_batch(record, ALONE.device)
    assert set(batch) == {"input_ids", "attention_mask"}
    assert len(batch["input_ids"]) == 4
    short = record.model_copy(update={"config": {**record.config, "data": {**record.config["data"], "max_length": 3}}})
    assert prompt_batch(short, ALONE.device)["input_ids"].shape == (4, 3)


def test_one_base_serves_all_records_that_have_it(truths: tuple[Store, TrialRecord]) -> None:
    _, record = truths
    bases = RecordedBases(ALONE.device)
    first = bases.get(record)
    assert bases.get(record) is first
    assert first.model.config.id2label == {0: "False", 1: "True"}
    facts = {**record.environment.model, "labels": ["True", "False"]}
    other = record.model_copy(update={"environment": record.environment.model_copy(update={"model": facts})})
    assert bases.get(other).model.config.id2label == {0: "True", 1: "False"}


@pytest.mark.parametrize("missing", ["labels", "pad_token_id"])
def test_a_classifier_whose_classes_are_not_on_record_is_refused(
    missing: str, truths: tuple[Store, TrialRecord]
) -> None:
    _, record = truths
    facts = {name: value for name, value in record.environment.model.items() if name != missing}
    told = record.model_copy(update={"environment": record.environment.model_copy(update={"model": facts})})
    with pytest.raises(RecordError, match=f"the record of trial {record.key} does not name its classes and padding"):
        RecordedBases(ALONE.device).get(told)
