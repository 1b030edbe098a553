"""lm-evaluation-harness at the end of a training, and on the adapters of a store."""

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import HarnessConfig, TrialConfig
from prunedlora.results.analysis.find import UnknownCandidateError, find_candidate
from prunedlora.results.harness_document import read_harness
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.preflight import preflight
from prunedlora.training.distributed import Workers
from prunedlora.training.harness import HarnessError, load_tasks
from prunedlora.training.loop import Verdict
from prunedlora.trial import trial_harness
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.environment import environment
from prunedlora.trial.execute import execute_base, execute_trial
from prunedlora.trial.trial_harness import measure_stored
from tests.harness_tasks import INSTALLED, needs_harness, write_tasks
from tests.tiny import decoder_tree, sweep_tree

ALONE = Workers(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    load_tasks.cache_clear()


def run(trial: TrialConfig, store: Store, assets: AssetCache) -> TrialRecord:
    execute_trial(
        trial, trial_key(trial), store=store, assets=assets, workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


def further(figures: dict[str, Figure]) -> dict[str, Figure]:
    return {name: figure for name, figure in figures.items() if name.startswith("harness/")}


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialRecord, Path]:
    """A store with one pruned decoder, measured at its end and as a base, and its task files."""
    folder = tmp_path_factory.mktemp("tiny")
    tasks = write_tasks(folder / "tasks")
    asked = [str(tasks / "word_side.yaml"), str(tasks / "all_text.yaml")]
    tree = decoder_tree(folder, folder / "store", harness_tasks=asked, harness={"limit": 20})
    store = Store(str(folder / "store"))
    store.create_or_open(tree)
    config = parse_sweep(tree, "test")
    preflight(config)
    trial, assets = config.trial, AssetCache(ALONE.device)
    before = checksum(assets.get(trial).base.model)
    record = run(trial, store, assets)
    execute_base(trial, store=store, assets=assets, workers=ALONE)
    assert checksum(assets.get(trial).base.model) == before
    return store, record, tasks


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
def test_the_command_measures_a_stored_adapter_and_keeps_the_figures(
    trained: tuple[Store, TrialRecord, Path],
) -> None:
    """The last candidate's are those of the training; other settings make another file, the same replace it."""
    store, record, tasks = trained
    asked = ["harness", store.uri, record.key, "--task", str(tasks / "word_side.yaml"), "--limit", "20"]
    for arguments in (asked, asked, [*asked, "--num-fewshot", "1"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "harness/word_side/acc: 0." in result.output
        assert "(20 documents)" in result.output
    runs = read_harness(store, record.key)
    assert [run.candidate for run in runs] == ["12", "12"]
    plain = next(run for run in runs if run.settings["num_fewshot"] is None)
    assert plain.figures["harness/word_side/acc"] == record.candidates[-1].figures["harness/word_side/acc"]
    assert plain.environment.model["dtype"] == "float32"
    assert record == store.read_record(record.key)


@needs_harness
def test_the_command_takes_the_recommended_candidate(trained: tuple[Store, TrialRecord, Path]) -> None:
    store, record, tasks = trained
    command = ["harness", store.uri, "--task", str(tasks / "word_side.yaml"), "--limit", "5"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    _, recommended = find_candidate(store, "recommended")
    assert result.stdout.startswith(f"Candidate: {record.key}@{recommended.name}\n")


@needs_harness
def test_an_earlier_candidate(trained: tuple[Store, TrialRecord, Path]) -> None:
    store, record, tasks = trained
    found = measure_stored(store, f"{record.key}@6", [str(tasks / "all_text.yaml")], HarnessConfig(limit=20))
    assert found.candidate == "6"
    last = record.candidates[-1].figures["harness/all_text/bits_per_byte"]
    assert found.figures["harness/all_text/bits_per_byte"].value != last.value


@needs_harness
def test_a_harness_that_fails_leaves_the_candidate_on_record(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    """The metric of this task is not finite: the trial says so, its adapter can still be had."""
    _, record, tasks = trained
    path = tmp_path / "x.yaml"
    text = (tasks / "word_side.yaml").read_text()
    path.write_text(text.replace("aggregation: mean", "aggregation: !function nan.nan"))
    (tmp_path / "nan.py").write_text("def nan(items):\n    return float('nan')\n")
    evaluation = {**record.config["evaluation"], "harness_tasks": [str(path)]}  # type: ignore[dict-item]
    trial = TrialConfig.model_validate({**record.config, "evaluation": evaluation})
    store = Store(str(tmp_path / "store"))
    store.create_or_open(decoder_tree(tasks.parent, store.uri))
    failed = run(trial, store, AssetCache(ALONE.device))
    assert failed.failure is not None
    assert failed.failure.message == "harness/word_side/acc is nan"
    assert [candidate.step for candidate in failed.candidates] == [6, 12]
    assert (Path(store.uri) / "trials" / failed.key / str(failed.candidates[-1].adapter_path)).is_dir()


@needs_harness
@pytest.mark.parametrize(
    ("candidate", "tasks", "error", "message"),
    [
        ("nobody", ["x.yaml"], UnknownCandidateError, "has no trial 'nobody'"),
        ("KEY", ["./no/x.yaml"], HarnessError, "no/x.yaml does not exist"),
    ],
)
def test_what_cannot_be_measured(
    trained: tuple[Store, TrialRecord, Path], candidate: str, tasks: list[str], error: type[Exception], message: str
) -> None:
    store, record, _ = trained
    with pytest.raises(error, match=message):
        measure_stored(store, candidate.replace("KEY", record.key), tasks, HarnessConfig())


@needs_harness
def test_preflight_finds_tasks_that_are_not_there(trained: tuple[Store, TrialRecord, Path], tmp_path: Path) -> None:
    tasks = trained[2]
    tree = decoder_tree(tasks.parent, tmp_path, harness_tasks=["wikitxt"])
    with pytest.raises(HarnessError, match=r"lm-eval has no task 'wikitxt'; near it: .*\bwikitext\b"):
        preflight(parse_sweep(tree, "test"))
    tree = decoder_tree(tasks.parent, tmp_path, harness_tasks=[str(tasks / "word_side.yaml")], harness={"limit": 1})
    with pytest.raises(HarnessError, match="1 documents for 2 workers"):
        preflight(parse_sweep({**tree, "resources": {"num_workers": 2}}, "test"))


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    """A store of text classification, as far as it is read."""
    store = Store(str(tmp_path / "store"))
    tree = sweep_tree(tmp_path, store.uri)
    store.create_or_open(tree)
    candidate = Candidate(
        step=1, progress=1.0, figures={}, ranks={"a": 1}, adapter_params=1, adapter_bytes=4, head_params=0,
        file_bytes=4, max_rank=1, adapter_path="adapters/000001", train_seconds=0.0, tokens_seen=1, examples_seen=1,
    )  # fmt: skip
    record = TrialRecord(
        key="abc", config=parse_sweep(tree, "test").trial.model_dump(mode="json"), status="completed", attempts=1,
        candidates=(candidate,), environment=environment(ALONE, None), train_seconds=0.0,
    )  # fmt: skip
    store.write_record(record, 1)
    asked = ["harness", store.uri, "abc", "--task", "arc_easy"]
    for arguments, message in (
        (asked, "needs a causal language model; that of task 'text_classification' has a classification head"),
        ([*asked, "--limit", "1.5"], "limit: 1.5 is neither a whole number from 1 nor a share below 1"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert (result.exit_code, message in result.output) == (2, True), result.output


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
