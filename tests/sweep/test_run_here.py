"""A sweep of baselines alone in this process: what it leaves, and how it ends and goes on."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from transformers import LlamaForCausalLM

from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.driver import read_driver
from prunedlora.results.driver_lock import DriverLock, DriverLockedError
from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep import early_end
from prunedlora.sweep import here_run as here_run_module
from prunedlora.sweep import run_here as run_here_module
from prunedlora.sweep.early_end import EarlyEnd
from prunedlora.sweep.here_progress import HereProgress
from prunedlora.sweep.here_run import InterruptedHereError
from prunedlora.sweep.outcome import SweepResult
from prunedlora.sweep.run_here import NotHereError, run_here
from prunedlora.trial.outside_error import NodeError
from tests import tiny
from tests.hidden_packages import HIDE
from tests.inventions import invented_record

ROOT = Path(__file__).parents[2]
TIMES = {"train_seconds", "evaluation_seconds", "tokens_per_second", "attempts"}
"""Of a record and its candidates: what two equal trainings differ in."""
WORK = (
    (here_run_module, "execute_trial"), (run_here_module, "measure_base"), (here_run_module, "measure_test"),
)  # fmt: skip


def tree_of(folder: Path, storage: Path, **changes: Any) -> dict[str, Any]:
    """A plain LoRA of four steps, and cuts of it, under a label."""
    tree = tiny.sweep_tree(folder, storage)
    trial = tree["trial"]
    del trial["pruning"]
    trial["adapter"]["method"] = "lora"
    trial["training"]["num_steps"] = 4
    trial["cuts"] = {"sizes": {"mean_rank": [3, 1]}, "screen_examples": None}
    return tree | {"num_trials": 0, "space": {}, "baselines": [{"label": "plain"}]} | changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> SweepConfig:
    return parse_sweep(tree_of(folder, tmp_path / "store"), "test")


def run(config: SweepConfig, **options: Any) -> tuple[SweepResult, str]:
    text = io.StringIO()
    console, cpu = Console(file=text, width=200), torch.device("cpu")
    return run_here(config, config.storage, console=console, device=cpu, **options), text.getvalue()


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, SweepResult, str]:
    """A store that was run in one piece, and what was told."""
    config = parse_sweep(tree_of(folder, tmp_path_factory.mktemp("whole") / "store"), "test")
    return Store(config.storage), *run(config, command=["prunedlora", "shrink", "x"])


def timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: timeless(value) for name, value in content.items() if name not in TIMES}
    return [timeless(each) for each in content] if isinstance(content, list) else content


def only_record(store: Store) -> TrialRecord:
    [record] = store.records()
    return record


def is_as(one: Store, other: Store) -> bool:
    records = [timeless(only_record(store).model_dump(mode="json")) for store in (one, other)]
    return bool(records[0] == records[1])


def files(store: Store) -> set[str]:
    root = Path(store.uri)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_it_leaves_a_whole_sweep(whole: tuple[Store, SweepResult, str]) -> None:
    store, result, text = whole
    assert (result.exit_code, result.ending, result.num_new, result.problems) == (0, "all trials are done", 1, ())
    record = only_record(store)
    assert (record.status, record.label, record.attempts) == ("completed", "plain", 1)
    assert [candidate.cut is None for candidate in record.candidates] == [True, True, False, False]
    assert [(ask.kind, ask.key) for ask in store.asks()] == [("baseline", record.key)]
    assert store.read_base() is not None
    assert result.summary.recommended is not None
    recommended = result.summary.recommended
    folder = Path(store.uri) / "recommended"
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "certificate.json", "labels.json"}
    assert {path.name for path in folder.iterdir()} == names
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["candidate"] == recommended.name
    assert certificate["checks"]["weights_file"] == "sha256 as recorded"
    assert certificate["checks"]["max_logit_difference_merged"] < 1e-4
    assert {"report/report.html", "sweep.yaml", "contents.json", "key_version.json", "commits.json"} <= files(store)
    assert "prunedlora shrink x" in (Path(store.uri) / "report/report.html").read_text()
    driver = read_driver(store.storage)
    assert driver is not None
    assert driver.released
    lines = text.splitlines()
    assert lines[0] == f"trial plain ({record.key})"
    assert [line.split(":")[0] for line in lines[1:5]] == [f"candidate {each.name}" for each in record.candidates]
    assert "parameters (2 of at most 4 candidates done, about 0:0" in lines[2]
    assert lines[5].startswith(f"trial {record.key} completed: accuracy ")
    assert lines[6:8] == [
        "evaluating the base model",
        f"evaluating the recommended adapter, {recommended.name}, on the test split",
    ]
    assert "Trials: 0 kept, 0 resumed, 1 new, 0 failed; all trials are done." in text
    stats = json.loads((Path(store.uri) / "sweep_stats.json").read_text())
    assert [slot["num_finished"] for slot in stats["slots"]] == [3]


def test_what_is_done_is_not_done_again(
    whole: tuple[Store, SweepResult, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = whole[0]
    for module, name in WORK:
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("nothing is left"))
    tree = tree_of(folder, Path(store.uri), baselines=[{"label": "renamed"}])
    again, text = run(parse_sweep(tree, "test"))
    assert (again.exit_code, again.num_kept, again.num_new) == (0, 1, 0)
    assert text.startswith("WARNING: ")  # first of all: two steps have learned nothing
    assert " Recommended: " in " ".join(text.split())
    assert only_record(store).label == "renamed"
    run(parse_sweep(tree_of(folder, Path(store.uri)), "test"))


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, stop: Callable[[], object]) -> None:
    """When the trial has found so many candidates something happens, once."""
    found, seen = HereProgress.found, []

    def told(progress: HereProgress, content: dict[str, Any]) -> None:
        found(progress, content)
        seen.append(content)
        if len(seen) == number:
            stop()

    monkeypatch.setattr(HereProgress, "found", told)


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_interrupted_trial_goes_on_as_if_nothing_had_been(
    number: int, config: SweepConfig, whole: tuple[Store, SweepResult, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-training, and among the cuts."""
    stop_at(monkeypatch, number, lambda: signal.raise_signal(signal.SIGINT))
    first, text = run(config)
    assert (first.exit_code, first.ending, first.num_new) == (130, "interrupted", 0)
    assert "interrupted: what is in hand writes a checkpoint and goes on in the next run" in text
    assert "Run the same command again to go on." in text
    store = Store(config.storage)
    assert store.records() == []
    assert store.read_base() is None
    second, text = run(config)
    assert (second.exit_code, second.num_resumed, second.num_new) == (0, 1, 0)
    assert f"goes on with {number} candidate" in text
    assert only_record(store).attempts == 2
    assert is_as(store, whole[0])
    assert {name for name in files(whole[0]) ^ files(store) if "drivers/" not in name} == {"command.txt"}


def test_sigterm_leaves_a_checkpoint_and_an_open_store(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        run(config)
    assert end.value.code == 143
    store = Store(config.storage)
    driver = read_driver(store.storage)
    assert driver is not None
    assert driver.released
    [ask] = store.asks()
    assert len(store.checkpoints(ask.key)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_takes_too_long_is_left(
    number: signal.Signals, config: SweepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM waits for a checkpoint, and not for ever, even where Python swallows what its handler raises (as it does
    in callbacks of weak references); a second Ctrl-C waits for nothing."""
    monkeypatch.setattr(early_end, "TERM_SECONDS", 0.1)
    monkeypatch.setattr(early_end, "AGAIN_SECONDS", 0.1)

    def hang() -> None:
        signal.raise_signal(number)
        if number is signal.SIGINT:
            signal.raise_signal(number)
        with suppress(SystemExit):
            time.sleep(30)
        time.sleep(30)

    stop_at(monkeypatch, 1, hang)
    began = time.monotonic()
    with pytest.raises(SystemExit if number is signal.SIGTERM else KeyboardInterrupt):
        run(config)
    assert time.monotonic() - began < 25
    driver = read_driver(Store(config.storage).storage)
    assert driver is not None
    assert driver.released


def test_a_failed_trial_leaves_its_record_and_is_tried_again_on_request(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tree_of(folder, tmp_path / "store")
    tree["trial"]["optimizer"] = {"learning_rate": 1e35, "head_learning_rate": 1e35}
    config = parse_sweep(tree, "test")
    result, text = run(config)
    record = only_record(Store(config.storage))
    assert record.failure is not None
    assert (record.status, result.exit_code, result.num_failed) == ("failed", 1, 1)
    assert f"Problem: trial {record.key} failed: NonFiniteError: " in text
    retried, _ = run(config, retry_failed=True)
    assert (retried.exit_code, retried.num_resumed) == (1, 1)
    assert only_record(Store(config.storage)).attempts == 2


def test_another_driver_that_took_over_is_told_of(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the trial has not failed by it."""

    def lose() -> None:
        def check(_: DriverLock) -> None:
            raise DriverLockedError("was taken over by another")

        monkeypatch.setattr(DriverLock, "check", check)

    stop_at(monkeypatch, 1, lose)
    with pytest.raises(DriverLockedError, match="was taken over by another"):
        run(config)
    assert Store(config.storage).records() == []


def test_trouble_of_the_node_is_no_failure(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def trouble(*_: Any, **__: Any) -> str:
        raise NodeError("trial x was interrupted on node y: OSError: gone")

    with monkeypatch.context() as patch:
        patch.setattr(here_run_module, "execute_trial", trouble)
        with pytest.raises(InterruptedHereError, match=r"OSError: gone\. No trial has failed by this: run the same"):
            run(config)
    assert Store(config.storage).records() == []
    for module, name in WORK[1:]:
        monkeypatch.setattr(module, name, trouble)
    result, text = run(config)
    assert (result.exit_code, len(result.problems)) == (1, 2)
    assert "Problem: the base model was not evaluated: NodeError: trial x was interrupted on node y" in text
    assert "Problem: the recommended adapter was not tested and not exported: NodeError: " in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_trials": 2, "space": {"optimizer.learning_rate": {"choice": [1e-3, 1e-2]}}}, "num_trials 2 is a search"),
        ({"resources": {"num_workers": 2}}, "resources.num_workers 2: this process is one, give 1"),
    ],
)
def test_what_takes_more_than_this_process_is_refused(
    changes: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotHereError, match=message):
        run(parse_sweep(tree_of(folder, tmp_path / "store", **changes), "test"))
    assert not (tmp_path / "store").exists()


def test_the_time_is_up(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a trial begins, or in the middle of one."""
    result, _ = run(config.model_copy(update={"max_seconds": 0.001}))
    assert (result.exit_code, result.ending, Store(config.storage).asks()) == (0, "the time is up", [])
    ends: list[EarlyEnd] = []
    enter = EarlyEnd.__enter__
    monkeypatch.setattr(EarlyEnd, "__enter__", lambda end: ends.append(end) or enter(end))
    stop_at(monkeypatch, 1, lambda: setattr(ends[0], "_deadline", 0.0))
    result, text = run(config)
    assert (result.exit_code, result.ending) == (0, "the time is up")
    assert text.count("the time is up: what is in hand writes a checkpoint and goes on in the next run\n") == 1
    store = Store(config.storage)
    [ask] = store.asks()
    assert (store.records(), len(store.checkpoints(ask.key))) == ([], 1)


def test_an_adapter_that_exists_is_only_cut(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that plain PEFT saved, without a step of training; interrupted among its cuts."""
    tree = tiny.decoder_tree(folder, tmp_path / "store")
    base = LlamaForCausalLM.from_pretrained(folder / "decoder")
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    trial = tree["trial"]
    del trial["pruning"]
    trial |= {
        "adapter": {"method": "lora", "start_from": str(tmp_path / "adapter")},
        "training": {"num_steps": 0, "batch_size": 8},
        "evaluation": {"metric": "loss"},
        "cuts": {"sizes": {"mean_rank": [2, 1]}, "screen_examples": None},
    }
    alone = {"num_trials": 0, "space": {}, "baselines": [{"label": "shrink"}], "recommend_within": 100.0}
    config = parse_sweep(tree | alone, "test")
    stop_at(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    assert run(config)[0].exit_code == 130
    result, text = run(config)
    assert (result.exit_code, result.num_resumed) == (0, 1)
    assert "goes on with 2 candidates on record" in text
    record = only_record(Store(config.storage))
    assert [(each.step, each.cut and each.cut.size, each.tokens_seen) for each in record.candidates] == [
        (0, None, 0), (0, 2.0, 0), (0, 1.0, 0)
    ]  # fmt: skip
    assert "(3 of at most 3 candidates done, about 0:00 left)" in text
    recommended = tmp_path / "store" / "recommended"
    card = " ".join((recommended / "README.md").read_text().split())
    assert f"the adapter `{tmp_path / 'adapter'}`, sha256" in card
    # The smallest is recommended here, and what it was made of is measured on the test split beside it.
    exported = result.summary.exported
    assert exported is not None
    assert exported.original_test is not None
    began, now = (figure_text(test["loss"]) for test in (exported.original_test, exported.test))
    assert f"On the test split it is {began} beside {now}." in card
    facts = json.loads((recommended / "certificate.json").read_text())
    assert facts["test"]["loss"]["value"] == exported.test["loss"].value
    assert facts["origin"]["original"]["test"]["loss"]["value"] == exported.original_test["loss"].value
    told = [line for line in text.splitlines() if line.endswith(" on the test split")]
    assert told[1] == f"evaluating the adapter that it began with, {record.key}@0, on the test split"
    PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder / "decoder"), recommended)


PROGRAM = (
    HIDE
    + """
import os, signal
from pathlib import Path
import torch
from rich.console import Console
from prunedlora.config.load import load_sweep
from prunedlora.sweep import run_here
from prunedlora.sweep.early_end import EarlyEnd
from prunedlora.sweep.here_progress import HereProgress

config, left = load_sweep(Path(sys.argv[1])), int(sys.argv[2])
found = HereProgress.found

def told(progress, content):
    global left
    found(progress, content)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

HereProgress.found = told
result = run_here.run_here(config, config.storage, console=Console(), device=torch.device("cpu"))
assert not {"ray", "optuna"} & sys.modules.keys()
sys.exit(result.exit_code)
"""
)


@pytest.mark.slow
def test_a_killed_process_goes_on_and_neither_takes_ray_or_optuna(
    folder: Path, tmp_path: Path, whole: tuple[Store, SweepResult, str]
) -> None:
    sweep_file = tmp_path / "sweep.yaml"
    sweep_file.write_text(yaml.safe_dump(tree_of(folder, tmp_path / "store")))
    store = Store(str(tmp_path / "store"))
    outputs = []
    for number, status in ((3, -signal.SIGKILL), (0, 0)):
        command = [sys.executable, "-c", PROGRAM, str(sweep_file), str(number)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        outputs.append(done.stdout)
        assert len(store.records()) == (status == 0)
    assert "goes on with " in outputs[1]
    assert is_as(store, whole[0])


@pytest.mark.slow
def test_it_is_what_a_sweep_on_ray_leaves(
    folder: Path, tmp_path: Path, shared_ray: None, whole: tuple[Store, SweepResult, str]
) -> None:
    from prunedlora.sweep.run import run_sweep

    tree = tree_of(folder, tmp_path / "store", resources={"num_slots": 1})
    config, text = parse_sweep(tree, "test"), io.StringIO()
    result = run_sweep(config, config.storage, console=Console(file=text, width=200), command=["x"])
    here, there = whole[0], Store(config.storage)
    assert result.exit_code == 0
    assert files(here) == files(there)
    assert is_as(here, there)
    assert here.asks() == there.asks()
    assert here.read_base() == there.read_base()
    exported = [store.read_exported() for store in (here, there)]
    assert exported[0] is not None
    assert exported[1] is not None
    assert exported[0].model_copy(update={"path": exported[1].path}) == exported[1]
    for name in ("README.md", "labels.json", "adapter_model.safetensors"):
        one, other = (Path(store.uri, "recommended", name).read_bytes() for store in (here, there))
        assert one == other
    assert [line for line in whole[2].splitlines() if line.startswith("Recommended")] == [
        line for line in text.getvalue().splitlines() if line.startswith("Recommended")
    ]


def progress_of(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[HereProgress, list[float], io.StringIO]:
    clock, text = [100.0], io.StringIO()
    monkeypatch.setattr("prunedlora.sweep.here_progress.time.monotonic", lambda: clock[0])
    return HereProgress(Console(file=text, width=200), "accuracy", 2, 0), clock, text


def test_the_time_left_is_that_of_steps_and_candidates(config: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two trials of 4 steps and 4 candidates each: steps of 2 s, evaluations of 10 s."""
    progress, clock, text = progress_of(config, monkeypatch)
    trial = config.trial
    content = invented_record("a", trial.model_dump(mode="json")).candidates[0].model_copy(update={"step": 2})
    progress.begin("a", None, trial, 0)
    for step in (1, 2):
        clock[0] += 2 if step > 1 else 50  # it is loaded
        progress.stepped(step, 4)
    assert progress.seconds_left() is None
    progress.evaluating("2")
    clock[0] += 10
    progress.found(content.model_dump(mode="json"))
    assert progress.seconds_left() == 2 * 2 + 3 * 10 + 4 * 2 + 4 * 10
    clock[0] += 2
    progress.stepped(3, 4)
    progress.evaluating("4")
    clock[0] += 4
    assert progress.seconds_left() == 1 * 2 + 3 * 10 + 4 * 2 + 4 * 10 - 4
    assert progress.line() == (
        "evaluating candidate 4, 0/2 trials done, 1:08 elapsed, 1 of at most 4 candidates done, about 1:16 left"
    )
    before = text.getvalue()
    progress.tick()
    assert text.getvalue() == before
    clock[0] += 60
    progress.tick()
    assert text.getvalue().splitlines()[-1].startswith("evaluating candidate 4, 0/2 trials done, 2:08 elapsed")


def test_a_terminal_shows_what_is_going_on(config: SweepConfig) -> None:
    text = io.StringIO()
    with HereProgress(Console(file=text, width=200, force_terminal=True), "accuracy", 1, 0) as progress:
        progress.begin("a", "shrink", config.trial, 0)
        progress.evaluating("4r1")
    assert "trial shrink (a)" in text.getvalue()
    assert "evaluating candidate 4r1, 0:00 elapsed, 0 of at most 4 candidates done" in text.getvalue()
