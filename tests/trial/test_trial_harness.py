"""lm-evaluation-harness at the end of a training."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.config.trial_sections import HarnessConfig
from prunedlora.results.record import Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.preflight import preflight
from prunedlora.training.harness import HarnessError, load_tasks
from prunedlora.trial import trial_harness
from prunedlora.trial.assets import AssetCache
from tests.harness_tasks import ALONE, INSTALLED, needs_harness, run, trained_and_measured
from tests.tiny import decoder_tree


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    load_tasks.cache_clear()


def further(figures: dict[str, Figure]) -> dict[str, Figure]:
    return {name: figure for name, figure in figures.items() if name.startswith("harness/")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialRecord, Path]:
    return trained_and_measured(tmp_path_factory.mktemp("tiny"))


@needs_harness
def test_the_end_of_a_training_has_figures_of_the_harness(trained: tuple[Store, TrialRecord, Path]) -> None:
    """Those that `lm_eval` gives for the exported folder as an adapter (peft=…) on the base model."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    store, record, tasks = trained
    assert record.status == "completed"
    milestone, last = record.candidates
    assert further(milestone.figures) == {}
    assert set(last.ranks.values()) == {2}
    folder = Path(store.uri, "trials", record.key, str(last.adapter_path))
    base = str(record.config["model"]["name"])  # type: ignore[index, call-overload]
    lm = HFLM(base, peft=str(folder), dtype="float32", device="cpu", batch_size=8)
    names = [str(tasks / "word_side.yaml"), str(tasks / "all_text.yaml")]
    theirs = simple_evaluate(lm, tasks=names, limit=20)["results"]
    accuracy, text = theirs["word_side"], theirs["all_text"]["bits_per_byte,none"]
    found = further(last.figures)
    assert found["harness/word_side/acc"] == Figure(
        value=accuracy["acc,none"], stderr=accuracy["acc_stderr,none"], num_examples=20
    )
    assert found.pop("harness/all_text/bits_per_byte").value == pytest.approx(text, rel=1e-6)
    assert list(found) == ["harness/word_side/acc"]
    assert "lm-eval" in record.environment.packages


@needs_harness
def test_the_base_model_has_them_too(trained: tuple[Store, TrialRecord, Path]) -> None:
    store, record, _ = trained
    base = store.read_base()
    assert base is not None
    at_end = further(record.candidates[-1].figures)
    assert further(base.figures).keys() == at_end.keys()
    assert further(base.figures) != at_end


@needs_harness
def test_a_harness_that_fails_leaves_the_candidate_on_record(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    """The metric of this task is not finite: the candidate says so, and is completed all the same."""
    _, record, tasks = trained
    path = tmp_path / "x.yaml"
    text = (tasks / "word_side.yaml").read_text()
    path.write_text(text.replace("aggregation: mean", "aggregation: !function nan.nan"))
    (tmp_path / "nan.py").write_text("def nan(items):\n    return float('nan')\n")
    evaluation = {**record.config["evaluation"], "harness_tasks": [str(path)]}  # type: ignore[dict-item]
    trial = TrialConfig.model_validate({**record.config, "evaluation": evaluation})
    store = Store(str(tmp_path / "store"))
    store.create_or_open(decoder_tree(tasks.parent, store.uri))
    without = run(trial, store, AssetCache(ALONE.device))
    assert (without.status, [candidate.step for candidate in without.candidates]) == ("completed", [6, 12])
    milestone, last = without.candidates
    assert (milestone.harness_failure, further(last.figures)) == (None, {})
    assert last.harness_failure is not None
    assert last.harness_failure.message == "harness/word_side/acc is nan"
    assert (last.harness_failure.type, last.harness_failure.fault) == ("HarnessError", "user")
    assert (Path(store.uri) / "trials" / without.key / str(last.adapter_path)).is_dir()


@needs_harness
def test_preflight_finds_tasks_that_are_not_there(trained: tuple[Store, TrialRecord, Path], tmp_path: Path) -> None:
    tasks = trained[2]
    tree = decoder_tree(tasks.parent, tmp_path, harness_tasks=["wikitxt"])
    with pytest.raises(HarnessError, match=r"lm-eval has no task 'wikitxt'; near it: .*\bwikitext\b"):
        preflight(parse_sweep(tree, "test"))
    tree = decoder_tree(tasks.parent, tmp_path, harness_tasks=[str(tasks / "word_side.yaml")], harness={"limit": 1})
    with pytest.raises(HarnessError, match="1 documents for 2 workers"):
        preflight(parse_sweep({**tree, "resources": {"num_workers": 2}}, "test"))


@pytest.mark.skipif(INSTALLED, reason="lm-eval is installed")
def test_without_the_package(tmp_path: Path) -> None:
    """Neither a sweep nor the command begins any work."""
    tree: dict[str, Any] = decoder_tree(tmp_path, tmp_path / "store", harness_tasks=["arc_easy"])
    (tmp_path / "sweep.yaml").write_text(json.dumps(tree))
    result = CliRunner().invoke(app, ["search", str(tmp_path / "sweep.yaml"), "--dry-run"])
    assert result.exit_code == 2
    assert "evaluation.harness_tasks 'arc_easy' needs lm-eval: pip install \"prunedlora[harness]\"" in result.output
    settings = trial_harness.harness_settings(["arc_easy"], HarnessConfig())
    with pytest.raises(HarnessError, match="harness tasks need lm-eval"):
        load_tasks(settings)
