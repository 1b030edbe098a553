"""lm-evaluation-harness on the adapters of a store."""

import os
from pathlib import Path

import datasets
import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.load import parse_sweep
from prunedlora.delivery import candidate_harness
from prunedlora.delivery.candidate_harness import measure_stored
from prunedlora.results.analysis.find import UnknownCandidateError, find_candidate
from prunedlora.results.harness_document import read_harness
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.harness import HarnessError, load_tasks
from prunedlora.trial.environment import environment
from tests.harness_tasks import ALONE, needs_harness, trained_and_measured
from tests.tiny import sweep_tree


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    load_tasks.cache_clear()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialRecord, Path]:
    return trained_and_measured(tmp_path_factory.mktemp("tiny"))


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


@needs_harness
def test_a_chat_template_is_asked_of_the_tokenizer_before_the_base_is_loaded(
    trained: tuple[Store, TrialRecord, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record, tasks = trained
    command = ["harness", store.uri, record.key, "--task", str(tasks / "word_side.yaml"), "--limit", "4"]
    monkeypatch.setattr(candidate_harness, "load_base_of", pytest.fail)
    result = CliRunner().invoke(app, [*command, "--apply-chat-template"])
    assert result.exit_code == 2
    assert "has no chat template" in result.output


@needs_harness
def test_a_system_instruction_stands_before_the_prompt_and_is_on_record(
    trained: tuple[Store, TrialRecord, Path],
) -> None:
    store, record, tasks = trained
    command = ["harness", store.uri, record.key, "--task", str(tasks / "all_text.yaml"), "--limit", "3"]
    result = CliRunner().invoke(app, [*command, "--system-instruction", "Be brief."])
    assert result.exit_code == 0, result.output
    told = {run.settings["system_instruction"] for run in read_harness(store, record.key)}
    assert "Be brief." in told


@needs_harness
def test_a_store_that_is_read_only_is_measured_and_says_that_nothing_is_kept(
    trained: tuple[Store, TrialRecord, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record, tasks = trained
    kept = read_harness(store, record.key)
    replace = os.replace

    def refuse(origin: str, target: str) -> None:
        if str(target).startswith(store.uri):
            raise OSError(30, "Read-only file system")
        replace(origin, target)

    monkeypatch.setattr(os, "replace", refuse)
    command = ["harness", store.uri, record.key, "--task", str(tasks / "word_side.yaml"), "--limit", "4"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "harness/word_side/acc: " in result.stdout
    assert "Kept in" not in result.stdout
    assert f"{store.uri} is read-only, the figures are not kept (" in result.stderr
    assert read_harness(store, record.key) == kept
