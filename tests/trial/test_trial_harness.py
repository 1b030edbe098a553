"""lm-evaluation-harness at the end of a training."""

import io
import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
from optuna.trial import TrialState
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.card import card
from prunedlora.delivery.form import Form
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import Failure, Figure, TrialRecord
from prunedlora.results.report.overview import overview
from prunedlora.results.store import Store
from prunedlora.study.rebuild import outcome
from prunedlora.sweep.finish import export_recommended
from prunedlora.sweep.outcome import harness_problems
from prunedlora.sweep.preflight import preflight
from prunedlora.training.harness import HarnessError, load_tasks
from prunedlora.trial import trial_harness
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.base_reference import measure_base
from prunedlora.trial.last_words import HARNESS, leave_words
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


CHOSEN = "harness/word_side/acc"


def chosen_trial(folder: Path, store: Store, tasks: Path, task: str = "word_side", **changes: Any) -> TrialConfig:
    """A short training whose quality the harness gives, with two free cuts, in a store of its own."""
    evaluation = {"metric": CHOSEN, "harness_tasks": [str(tasks / f"{task}.yaml")], "harness": {"limit": 20}}
    tree = decoder_tree(folder, store.uri, **evaluation)
    tree["objectives"] = {CHOSEN: "maximize", "adapter_params": "minimize"}
    tree["trial"] |= {"cuts": {"sizes": {"kept": [0.25, 0.12]}, "screen_examples": None}} | changes
    store.create_or_open(tree)
    return parse_sweep(tree, "test").trial


@needs_harness
def test_the_harness_measures_every_candidate_that_it_chooses(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    """Cuts too; and the adapters are those of a training without it, bit for bit. Their scores are on record document
    by document, so that they are compared in pairs."""
    _, _, tasks = trained
    store, other = Store(str(tmp_path / "store")), Store(str(tmp_path / "other"))
    trial, assets = chosen_trial(tasks.parent, store, tasks), AssetCache(ALONE.device)
    record = run(trial, store, assets)
    measure_base(trial, store=store, assets=assets, workers=ALONE)
    assert record.status == "completed"
    assert [candidate.cut is None for candidate in record.candidates] == [True, True, False, False]
    for candidate in record.candidates:
        assert set(candidate.figures) == {"loss", CHOSEN}
        outcomes = store.read_outcomes(record.key, candidate.name)
        assert outcomes is not None
        scores = outcomes.scores[CHOSEN]
        assert (len(scores), len(outcomes.loss_sums)) == (20, 8)
        assert sum(scores) / 20 == pytest.approx(candidate.figures[CHOSEN].value, abs=1e-12)
    plain = trial.model_dump() | {"evaluation": {"metric": "loss", "milestones": [0.5]}}
    other.create_or_open(decoder_tree(tasks.parent, other.uri))
    without = run(TrialConfig.model_validate(plain), other, assets)
    assert [each.file_sha256 for each in without.candidates] == [each.file_sha256 for each in record.candidates]
    found = decide(summarize(store), within=0.5)
    assert found is not None
    assert found.caveats == ()
    work = {"key": found.recommended.point.key, "candidate": found.recommended.point.candidate.name}
    measure_test(trial, **work, store=store, assets=assets, workers=ALONE)
    export_recommended(store, **work, told=None)
    summary = summarize(store)
    console = Console(file=io.StringIO(), width=10_000)
    console.print(overview(summary))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "documents of lm-evaluation-harness task word_side are this sweep's validation" in said
    assert "On the test split, by which nothing was chosen, its loss is" in said
    assert f"The untrained base model has {CHOSEN}" in said
    assert summary.exported is not None
    told = card(record, found.recommended.point.candidate, summary.exported.test, Form())
    assert re.search(
        rf"\nloss [\d.]+ ± [\d.]+ on the test split \(8 examples, .*\)\. {CHOSEN} .* \(20 documents\)\. The", told
    )
    assert "no independent test" in told


BROKEN = """metric_list: [{metric: acc, aggregation: !function broken.SOMETIMES, higher_is_better: true}]
"""
COUNTING = """
calls = []
def sometimes(items):
    calls.append(items)
    return float("nan") if len(calls) == WHEN else sum(items) / len(items)
"""


def broken(tasks: Path, when: int) -> None:
    """A task whose metric is not finite at one of the measurements."""
    text = (tasks / "word_side.yaml").read_text()
    begin = text.index("metric_list")
    name = f"broken{when}"
    (tasks / f"{name}.yaml").write_text(text[:begin] + BROKEN.replace("broken.SOMETIMES", f"{name}.sometimes"))
    (tasks / f"{name}.py").write_text(COUNTING.replace("WHEN", str(when)))


@needs_harness
def test_a_trained_candidate_without_a_quality_ends_its_trial_which_goes_on_when_it_is_tried_again(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    tasks, store, assets = trained[2], Store(str(tmp_path / "store")), AssetCache(ALONE.device)
    broken(tasks, 2)
    trial = chosen_trial(tasks.parent, store, tasks, "broken2", cuts=None)
    record = run(trial, store, assets)
    assert record.status == "failed"
    assert record.failure is not None
    assert (record.failure.message, record.failure.fault) == (f"{CHOSEN} is nan", "trial")
    assert outcome(record, [CHOSEN, "adapter_params"])[0] == TrialState.PRUNED  # the study learns it
    first, last = record.candidates
    assert CHOSEN in first.figures
    assert last.harness_failure is not None
    assert last.harness_failure.message == f"{CHOSEN} is nan"
    assert (Path(store.uri) / "trials" / record.key / str(last.adapter_path)).is_dir()
    assert [point.name for point in summarize(store).points] == [f"{record.key}@6"]
    (problem,) = harness_problems(store, [record])
    assert problem.endswith("without a quality it is left out of the front: run again with --retry-failed")
    again = run(trial, store, assets)
    assert again.status == "completed"
    assert again.candidates[0] == first
    assert CHOSEN in again.candidates[1].figures


@needs_harness
def test_a_figure_that_is_not_the_quality_and_not_finite_is_left_out_with_its_reason(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    tasks, store = trained[2], Store(str(tmp_path / "store"))
    text = (tasks / "word_side.yaml").read_text().replace("aggregation: mean", "aggregation: !function never.never")
    (tasks / "never.yaml").write_text(text.replace("task: word_side", "task: never"))
    (tasks / "never.py").write_text("def never(items):\n    return float('nan')\n")
    trial = chosen_trial(tasks.parent, store, tasks, cuts=None)
    names = [str(tasks / f"{name}.yaml") for name in ("word_side", "never")]
    evaluation = trial.evaluation.model_copy(update={"harness_tasks": names})
    record = run(trial.model_copy(update={"evaluation": evaluation}), store, AssetCache(ALONE.device))
    assert (record.status, len(record.candidates)) == ("completed", 2)
    for candidate in record.candidates:
        assert set(candidate.figures) == {"loss", CHOSEN}
        assert candidate.harness_failure is not None
        assert candidate.harness_failure.message == "harness/never/acc is nan"
    assert len(summarize(store).points) == 2
    problem, _ = harness_problems(store, [record])
    assert "has not measured all of" in problem
    assert problem.endswith("HarnessError: harness/never/acc is nan; its quality is there")
    asked = record.environment.data["metric"]
    assert isinstance(asked, dict)
    assert (asked["name"], asked["limit"], len(asked["harness_tasks"])) == (CHOSEN, 20, 2)


@needs_harness
def test_where_the_harness_is_asked_no_more_no_further_candidate_is_trained(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    """An attempt before was broken by it, workers and all."""
    tasks, store, assets = trained[2], Store(str(tmp_path / "store")), AssetCache(ALONE.device)
    trial = chosen_trial(tasks.parent, store, tasks, cuts=None)
    why = Failure(type="RuntimeError", message="device-side assert", fault=None, traceback="…")
    leave_words(store, trial_key(trial), (1, 1), 0, why, HARNESS)
    record = run(trial, store, assets)
    assert (record.status, record.failure, record.candidates) == ("failed", why, ())
    assert run(trial, store, assets).status == "completed"  # tried again, it is asked again


@needs_harness
def test_a_cut_without_a_quality_is_left_out_and_its_training_is_none_the_worse(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    tasks, store = trained[2], Store(str(tmp_path / "store"))
    broken(tasks, 3)
    record = run(chosen_trial(tasks.parent, store, tasks, "broken3"), store, AssetCache(ALONE.device))
    assert record.status == "completed"
    assert [CHOSEN in candidate.figures for candidate in record.candidates] == [True, True, False, True]
    assert [point.candidate.name for point in summarize(store).points] == [
        candidate.name for candidate in record.candidates if candidate.harness_failure is None
    ]


@needs_harness
def test_preflight_finds_a_figure_and_a_template_that_are_not_there(
    trained: tuple[Store, TrialRecord, Path], tmp_path: Path
) -> None:
    folder, tasks = trained[2].parent, trained[2]
    asked = {"harness_tasks": [str(tasks / "word_side.yaml")]}
    tree = decoder_tree(folder, tmp_path, metric="harness/word_side/acc_norm", **asked)
    tree["objectives"] = {"harness/word_side/acc_norm": "maximize", "adapter_params": "minimize"}
    with pytest.raises(HarnessError, match="'word_side' gives no 'acc_norm', but acc; take acc"):
        preflight(parse_sweep(tree, "test"))
    tree = decoder_tree(folder, tmp_path, **asked, harness={"apply_chat_template": True})
    with pytest.raises(HarnessError, match=r"apply_chat_template: the tokenizer of .* has no chat template"):
        preflight(parse_sweep(tree, "test"))
    template = tmp_path / "chat.jinja"
    template.write_text("{% for turn in messages %}{{ turn.content }}<end>{% endfor %}")
    trial = parse_sweep(tree, "test").trial
    data = trial.data.model_copy(update={"chat_template": str(template)})
    harness = trial_harness.load_harness(trial.model_copy(update={"data": data}), 1)
    assert harness is not None
    assert harness.num_documents == 24


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
