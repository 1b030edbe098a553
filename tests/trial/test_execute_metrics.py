"""Whole tiny trials by figures of all classes together, and by functions of one's own."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.corpus_figures import CORPUS_FIGURES, corpus_stderr, corpus_value
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.tasks.metrics.own_score import OwnScoreError
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import decoder_tree, sweep_tree

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def ran(tree: dict[str, Any]) -> tuple[Store, TrialConfig, TrialRecord]:
    """The base trial of a sweep, as a slot does it, and its record."""
    sweep, store = parse_sweep(tree, "test"), Store(tree["storage"])
    store.create_or_open(tree)
    key = trial_key(sweep.trial)
    execute_trial(
        sweep.trial,
        key,
        store=store,
        assets=AssetCache(CPU),
        workers=Workers(0, 1, CPU),
        epoch=1,
        max_attempts=1,
        report=lambda _: Verdict.CONTINUE,
        progress=lambda *_: Verdict.CONTINUE,
    )
    record = store.read_record(key)
    assert record is not None
    return store, sweep.trial, record


def test_a_trial_by_balanced_accuracy_keeps_the_classes_it_is_made_of(folder: Path, tmp_path: Path) -> None:
    tree = sweep_tree(folder, tmp_path / "store")
    tree["trial"]["evaluation"]["metric"] = "balanced_accuracy"
    tree["objectives"] = {"balanced_accuracy": "maximize", "adapter_params": "minimize"}
    store, _, record = ran(tree)
    assert record.status == "completed"
    for candidate in record.candidates:
        assert set(candidate.figures) == {"loss", "accuracy", *CORPUS_FIGURES}
        outcomes = store.read_outcomes(record.key, candidate.name)
        assert outcomes is not None
        true, predicted = np.array(outcomes.true_classes), np.array(outcomes.predicted_classes)
        assert (len(true), set(true.tolist())) == (20, {0, 1})
        assert tuple(map(float, true == predicted)) == outcomes.scores["accuracy"]
        for name in CORPUS_FIGURES:
            figure = candidate.figures[name]
            assert (figure.value, figure.stderr) == (
                corpus_value(name, true, predicted),
                corpus_stderr(name, true, predicted),
            )
    found = decide(summarize(store), within=0.5)
    assert found is not None
    assert found.caveats == ()


def own_metric(tmp_path: Path, *lines: str) -> str:
    file = tmp_path / "metrics.py"
    file.write_text("\n".join(["calls = []", "", "def closeness(answer, example):", *(f"    {one}" for one in lines)]))
    return f"{file}:closeness"


def test_a_score_that_raises_in_the_middle_fails_the_trial_and_says_where(folder: Path, tmp_path: Path) -> None:
    """20 right answers each of validation and test are tried before, then 20 predictions at each candidate."""
    tree = sweep_tree(folder, tmp_path / "store")
    lines = ["calls.append(answer)", "if len(calls) > 65:", "    raise OSError(f'no {answer}')"]
    metric = own_metric(tmp_path, *lines, "return 1.0 if answer == example['target'] else 0.25")
    tree["trial"]["evaluation"]["metric"] = metric
    tree["objectives"] = {"closeness": "maximize", "adapter_params": "minimize"}
    store, _, record = ran(tree)
    assert record.status == "failed"
    (first,) = record.candidates
    outcomes = store.read_outcomes(record.key, first.name)
    assert outcomes is not None
    assert set(first.figures) == {"loss", "accuracy", "closeness"}
    assert outcomes.scores["closeness"] == tuple(0.25 + 0.75 * right for right in outcomes.scores["accuracy"])
    assert first.figures["closeness"].value == pytest.approx(0.25 + 0.75 * first.figures["accuracy"].value)
    failure = record.failure
    assert failure is not None
    assert (failure.type, failure.fault) == ("OwnScoreError", "user")
    assert f"evaluation.metric {metric!r}: closeness raised on the answer '" in failure.message
    assert "line 6, in closeness\n    raise OSError(f'no {answer}')" in failure.message
    assert failure.message.splitlines()[-1].startswith("OSError: no ")


def test_a_trial_of_generation_by_a_function_of_one_s_own(folder: Path, tmp_path: Path) -> None:
    metric = own_metric(tmp_path, "return 1 if answer == example['target'] else 0.5")
    tree = decoder_tree(folder, tmp_path / "store", metric=metric, max_new_tokens=4)
    tree["objectives"] = {"closeness": "maximize", "adapter_params": "minimize"}
    store, trial, record = ran(tree)
    assert (record.status, trial.generate) == ("completed", "all")
    last = record.candidates[-1]
    outcomes = store.read_outcomes(record.key, last.name)
    assert outcomes is not None
    assert last.figures["closeness"].value == pytest.approx(np.mean(outcomes.scores["closeness"]))
    assert 0.5 in outcomes.scores["closeness"]
    digest = hashlib.sha256((tmp_path / "metrics.py").read_bytes()).hexdigest()
    assert record.environment.data["metric"] == {"file_sha256": digest, "function": "closeness"}


def test_a_function_written_anew_is_another_trial_and_is_loaded_anew(folder: Path, tmp_path: Path) -> None:
    tree, keys, assets = sweep_tree(folder, tmp_path / "store"), set(), AssetCache(CPU)
    for value in ("1", "0.5", "'x'"):
        metric = own_metric(tmp_path, f"return {value}")
        tree["trial"]["evaluation"]["metric"] = metric
        tree["objectives"] = {"closeness": "maximize", "adapter_params": "minimize"}
        trial = parse_sweep(tree, "test").trial
        keys.add(trial_key(trial))
        if value == "'x'":
            with pytest.raises(OwnScoreError, match=r"closeness gave 'x', a str, on the answer '(front|back)'"):
                assets.get(trial)
        else:
            assets.get(trial)
    assert len(keys) == 3
