"""What the README claims is run: its shell commands, its Python, its YAML, the paths it names."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunedlora.config.data_section import DataConfig
from prunedlora.config.load import load_sweep, parse_sweep
from tests.product.by_hand import SHRINK_COMMANDS
from tests.product.conftest import QUICK, ROOT
from tests.tiny import minilm_folder

Run = Callable[..., subprocess.CompletedProcess[str]]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line]


def test_the_first_lines_are_the_two_commands() -> None:
    assert commands()[:2] == [
        'pip install -e ".[quickstart]" && python jobs/search.py search_spaces/quickstart.yaml',
        'pip install -e ".[test]" && pytest',
    ]


def test_the_gate_runs_the_second() -> None:
    assert commands()[1] in (ROOT / ".ci" / "run").read_text()


def test_every_command_is_run_by_a_test() -> None:
    """The first by this folder's fixture, the second by the gate, the job by test_job.py, those that shrink by
    test_shrink.py and test_shrink_trained.py, the others here."""
    elsewhere = ("pip install", "ray job submit")
    here = [command.split()[:2] for command in commands() if not command.startswith(elsewhere)]
    verbs = [
        "search",
        "plan",
        "train",
        "report",
        "recommend",
        "confirm",
        "compare",
        "serving",
        "latency",
        "export",
        "show-data",
    ]
    assert here == [["prunedlora", verb] for verb in (*verbs, *["shrink"] * len(SHRINK_COMMANDS), "init")]
    assert tuple(command for command in commands() if command.startswith("prunedlora shrink")) == SHRINK_COMMANDS


def prunedlora(command: str, storage: Path) -> list[str]:
    """A README command as it can run here: with this environment's script, on the sweep of the fixture."""
    script = str(Path(sys.executable).with_name("prunedlora"))
    return [script, *command.replace("runs/quickstart", str(storage)).split()[1:]]


def command_of(verb: str) -> str:
    return next(command for command in commands() if command.startswith(f"prunedlora {verb}"))


def test_dry_run(run: Run, tmp_path: Path) -> None:
    output = run(*prunedlora(command_of("search"), Path("x")), "--storage", str(tmp_path / "new")).stdout
    assert "Trials: 0 kept, 0 to resume, 4 new at most" in output
    assert "Slots: " in output


def test_plan(run: Run, tmp_path: Path) -> None:
    """Counts alone; that speeds are measured in a slot is tried by tests/fleet/test_speed_slot.py."""
    counting = command_of("plan").split(" --price-per-hour")[0]
    command = [*prunedlora(counting, Path("x")), "--no-calibration", "--storage", str(tmp_path / "new")]
    assert "2,880 steps" in run(*command).stdout


def test_init(run: Run, tmp_path: Path) -> None:
    command = prunedlora(command_of("init").replace("family.yaml", str(tmp_path / "family.yaml")), Path("x"))
    run(*command)
    assert load_sweep(tmp_path / "family.yaml").trial.data.task == "text_classification"


def test_show_data(run: Run) -> None:
    output = run(*prunedlora(command_of("show-data"), Path("x"))).stdout
    assert output.count("Label: ") == 3
    assert "Padding: " in output


def test_report(run: Run, storage: Path) -> None:
    output = run(*prunedlora(command_of("report"), storage)).stdout
    assert "Recommended: " in output
    assert max(map(len, output.replace(str(storage), "").splitlines())) <= 100


def test_a_store_in_python(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = (block for block in blocks("python") if "open_store" in block)
    exec(compile(code.replace("runs/quickstart", str(storage)), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Recommended: ")
    assert "config.optimizer.learning_rate" in "\n".join(lines)


def test_recommend(run: Run, storage: Path) -> None:
    output = run(*prunedlora(command_of("recommend"), storage)).stdout
    assert output.startswith("Recommended: ")
    assert "prunedlora export " in output
    assert "Compared on the same 100 validation examples, pair by pair." in " ".join(output.split())


def test_confirm(run: Run, storage: Path) -> None:
    output = run(*prunedlora(command_of("confirm"), storage)).stdout
    assert "3 fresh seeds" in " ".join(output.split())


def test_compare(run: Run, storage: Path, tmp_path: Path) -> None:
    command = command_of("compare").replace("--to comparison", f"--to {tmp_path / 'comparison'}")
    output = run(*prunedlora(command, storage)).stdout
    assert "at matched adapter_params" in " ".join(output.split())
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {"comparison.html", "comparison.json"}


def test_serving(run: Run, storage: Path) -> None:
    output = run(*prunedlora(command_of("serving"), storage)).stdout
    assert "On a server of 8 slots of rank 16 in bfloat16" in output


def test_latency(run: Run, storage: Path) -> None:
    output = run(*prunedlora(command_of("latency"), storage)).stdout
    assert "Median of 5: 4 × 32 tokens" in output
    assert list(storage.glob("trials/*/latency/*.json"))


def test_export(run: Run, storage: Path, tmp_path: Path) -> None:
    record = next(storage.glob("trials/*/record.json"))
    key, step = record.parent.name, int(sorted(record.parent.glob("adapters/*"))[-1].name)
    command = command_of("export").replace("KEY@STEP", f"{key}@{step}").replace("adapters/small", str(tmp_path / "a"))
    output = run(*prunedlora(command, storage)).stdout
    assert "max_logit_difference_merged" in output
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "README.md", "certificate.json", "labels.json"
    }  # fmt: skip


@pytest.mark.slow
def test_train(run: Run, tmp_path: Path) -> None:
    overrides = [part for override in QUICK[1:] for part in ("--set", override)]
    command = [*prunedlora(command_of("train"), tmp_path), *overrides, "--storage", str(tmp_path / "one")]
    output = run(*command).stdout
    assert "Trials: 0 kept, 0 resumed, 1 new, 0 failed" in output


def test_python(storage: Path) -> None:
    """The lines that load the adapter, with the sweep's own base model."""
    names: dict[str, Any] = {"BASE": str(minilm_folder())}
    (code,) = [block for block in blocks("python") if "PeftModel" in block]  # test_transformers.py runs the other
    exec(code.replace("runs/quickstart", str(storage)), names)
    assert not names["model"].training


def test_yaml() -> None:
    (text,) = [block for block in blocks("yaml") if block.startswith("space:")]
    base = yaml.safe_load((ROOT / "search_spaces" / "quickstart.yaml").read_text())
    sweep = parse_sweep({**base, **yaml.safe_load(text)}, "README")
    assert len(sweep.space) == 6
    (text,) = [block for block in blocks("yaml") if block.startswith("data:")]
    assert len(DataConfig.model_validate(yaml.safe_load(text)["data"]).sources("train")) == 2


@pytest.mark.parametrize(
    "option", ["trial.optimizer.learning_rate=1e-3", "num_trials=40", "trial.adapter.initial_rank=4"]
)
def test_overrides(option: str) -> None:
    assert option in README
    load_sweep(ROOT / "search_spaces" / "quickstart.yaml", [option])


def test_paths_exist() -> None:
    named = re.findall(r"`((?:prunedlora|search_spaces|jobs|tests|\.ci)/[\w./]*)`", README)
    assert len(named) > 10
    missing = [path for path in named if not (ROOT / path).exists() and path != "search_spaces/x.yaml"]
    assert missing == []


def test_help_and_report_import_no_torch() -> None:
    modules = "prunedlora.cli, prunedlora.results.report.report, prunedlora.results.report.tables"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
