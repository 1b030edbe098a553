"""What only a GPU shows: half precision, 4-bit bases, exports of them, the pruner's choices, slots that share a GPU."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.methods import PruningConfig, section_fields
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.form import Form
from prunedlora.fleet import cluster
from prunedlora.pruning.pruner import Event, Pruner
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.sweep.run import run_sweep
from prunedlora.tasks.text_classification import TextClassification
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.tiny import sweep_tree

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
PRUNINGS: dict[str, dict[str, Any]] = {
    "gradient": {"recovery_strength": 1.0},
    "gradient, plain removal": {},
    "both sides, by token": {"recovery_side": "both", "curvature": "token", "recovery_strength": 0.5},
    "magnitude": {"criterion": "magnitude"},
    "svd": {"basis": "svd"},
    "whitened, global": {"basis": "whitened", "allocation": "global"},
}


def trained(
    folder: Path,
    model: dict[str, Any],
    pruning: dict[str, Any] | None = None,
    pause_at: int | None = None,
    milestones: Sequence[float] = (0.5,),
) -> tuple[Store, str, TrialRecord]:
    """A store with one trial that was trained on the GPU, paused once where asked; its key and its record."""
    store = Store(str(folder / "store"))
    tree = sweep_tree(folder, store.uri)
    tree["resources"] = {"gpus_per_worker": 1}
    tree["trial"]["model"] |= model
    tree["trial"]["pruning"] |= pruning or {}
    tree["trial"]["evaluation"]["milestones"] = list(milestones)
    tree["space"] = {"seed": {"choice": [0, 1]}}  # of the configuration alone: no sweep is run
    config = parse_sweep(tree, "test")
    store.create_or_open(config.model_dump(mode="json"))
    trial, device = config.trial, torch.device("cuda")
    key, workers = trial_key(trial), Workers(0, 1, device)

    def run(progress: Callable[[int, int, float], Verdict]) -> str:
        return execute_trial(
            trial, key, store=store, assets=AssetCache(device), workers=workers, epoch=1, max_attempts=3,
            report=lambda _: Verdict.CONTINUE, progress=progress,
        )  # fmt: skip

    if pause_at is not None:
        assert run(lambda step, *_: Verdict.PAUSE if step == pause_at else Verdict.CONTINUE) == "paused"
    status = run(lambda *_: Verdict.CONTINUE)
    record = store.read_record(key)
    assert record is not None
    assert status == "completed", record.failure
    measure_test(trial, key, record.candidates[-1].name, store=store, assets=AssetCache(device), workers=workers)
    return store, key, record


def check(record: TrialRecord) -> None:
    """It ran on the GPU, reached its target, and the adapter reloaded by PEFT is the one that was trained."""
    assert record.environment.device == torch.cuda.get_device_name()
    last = record.candidates[-1]
    assert sum(last.ranks.values()) == 3 * len(last.ranks)
    assert last.certificate is not None
    assert last.certificate["rms_logit_difference_reloaded"] < last.certificate["rms_logit_change"]
    assert last.certificate["max_logit_change"] > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("pruning", PRUNINGS.values(), ids=PRUNINGS.keys())
def test_a_trial_on_the_gpu(tmp_path: Path, dtype: str, pruning: dict[str, Any]) -> None:
    _, _, record = trained(tmp_path, {"dtype": dtype}, pruning)
    check(record)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_paused_trial_goes_on(tmp_path: Path, dtype: str) -> None:
    _, _, record = trained(tmp_path, {"dtype": dtype}, pause_at=7)
    check(record)


@pytest.mark.parametrize(
    "weights",
    [
        {"quantization": "nf4"},
        {"quantization": "nf4", "double_quantization": True},
        {"quantization": "nf4", "dtype": "float16"},
        {"quantization": "int8"},
        {"quantization": "int8", "dtype": "float16"},
    ],
    ids=["nf4", "nf4, double", "nf4, float16", "int8", "int8, float16"],
)
def test_a_base_of_few_bits(tmp_path: Path, weights: dict[str, Any]) -> None:
    store, key, record = trained(tmp_path, weights)
    check(record)
    export_candidate(store, key, tmp_path / "plain", check=True, form=Form())


@pytest.mark.parametrize("weights", [{"quantization": "nf4"}, {"dtype": "bfloat16"}], ids=["nf4", "bfloat16"])
@pytest.mark.parametrize(
    ("rate", "pause_at"),
    [({"rate": "restart"}, 8), ({"rate": "branch", "branch": 0.3}, 5)],
    ids=["within a rung", "within a branch"],
)
def test_a_paused_ladder_goes_on(tmp_path: Path, weights: dict[str, Any], rate: dict[str, Any], pause_at: int) -> None:
    """Every rung keeps to its budget, under half precision and with a base of four bits."""
    schedule = {"name": "ladder", "rungs": {"kept": [0.5, 0.2]}} | rate
    pruning = {
        "schedule": schedule, "basis": "svd", "allocation": "global_per_parameter", "min_rank": 0,
        "target_sparsity": None,
    }  # fmt: skip
    _, _, record = trained(tmp_path, weights, pruning, pause_at, milestones=[])
    assert [(candidate.step, candidate.rung) for candidate in record.candidates] == [(6, 0), (9, 1), (12, 2)]
    trunk, *rungs = (candidate.adapter_params for candidate in record.candidates)
    assert [size <= share * trunk for size, share in zip(rungs, (0.5, 0.2), strict=True)] == [True, True]
    for candidate in record.candidates:
        assert candidate.certificate is not None
        assert candidate.certificate["rms_logit_difference_reloaded"] < candidate.certificate["rms_logit_change"]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_as_asked(tmp_path: Path, attention: str) -> None:
    _, _, record = trained(tmp_path, {"attn_implementation": attention})
    check(record)


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example holds a sixth of the GPU's memory: of a step's eight four fit, and two or so of an evaluation's."""
    share = torch.cuda.get_device_properties(0).total_memory // 6
    for name, count in (("loss", lambda batch: len(batch["labels"])), ("evaluate", len)):
        monkeypatch.setattr(TextClassification, name, _hungry(getattr(TextClassification, name), share, count))
    _, _, record = trained(tmp_path, {"dtype": "bfloat16"})
    check(record)
    assert record.fit is not None
    assert (record.fit.halvings, record.fit.micro_batch_size) == (1, 4)
    assert record.fit.evaluation_halvings > 0
    assert torch.cuda.memory_reserved() < 3 * share


def _hungry(original: Callable[..., Any], share: int, count: Callable[[Any], int]) -> Callable[..., Any]:
    def call(task: Any, model: nn.Module, examples: Any, *rest: Any, **options: Any) -> Any:
        held = torch.empty(count(examples), share, dtype=torch.uint8, device="cuda")
        result = original(task, model, examples, *rest, **options)
        del held
        return result

    return call


def _looking(original: Callable[..., Any], flags: set[bool]) -> Callable[..., Any]:
    def call(*inputs: Any, **options: Any) -> Any:
        flags.add(torch.backends.cuda.matmul.allow_tf32)
        return original(*inputs, **options)

    return call


@pytest.mark.parametrize(("dtype", "expected"), [("float32", {True}), ("bfloat16", {False})])
def test_tf32_in_the_passes_of_a_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, expected: set[bool]
) -> None:
    seen: dict[str, set[bool]] = {"loss": set(), "evaluate": set()}
    for name, flags in seen.items():
        monkeypatch.setattr(TextClassification, name, _looking(getattr(TextClassification, name), flags))
    trained(tmp_path, {"dtype": dtype})
    assert seen == {"loss": expected, "evaluate": {False}}
    assert not torch.backends.cuda.matmul.allow_tf32


def test_float16_learns_what_float32_learns(tmp_path: Path) -> None:
    """The same losses to three digits; the scale, which is too large at first, is halved and no step is skipped."""
    logs = {}
    for dtype in ("float32", "float16"):
        store, key, record = trained(tmp_path / dtype, {"dtype": dtype})
        assert record.environment.model["dtype"] == dtype
        logs[dtype] = [line for line in store.read_log(key) if "loss" in line]
    whole, half = ([line["loss"] for line in log] for log in logs.values())
    assert half == pytest.approx(whole, abs=2e-2)
    assert [line["loss_scale"] for line in logs["float16"] if "loss_scale" in line]
    assert not any("loss_scale" in line for line in logs["float32"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_form_out_of_half_precision(tmp_path: Path, dtype: str) -> None:
    store, key, _ = trained(tmp_path, {"dtype": dtype})
    forms = {"plain": Form(), "half": Form(slot=8, dtype=dtype), "merged": Form(merged=True)}
    for name, form in forms.items():
        export_candidate(store, key, tmp_path / name, check=True, form=form)
    assert (tmp_path / "merged" / "model.safetensors").is_file()


@pytest.mark.parametrize("pruning", PRUNINGS.values(), ids=PRUNINGS.keys())
def test_the_gpu_removes_what_the_cpu_removes(pruning: dict[str, Any]) -> None:
    schedule = {"name": "linear", "begin": 0.0, "end": 1.0, "every_steps": 1}
    config = PruningConfig.model_validate({"target_rank": 3, "schedule": schedule} | pruning)
    settings = PruningSettings(**section_fields(config))
    (host, on_host), (device, on_device) = (_removals(settings, torch.device(name)) for name in ("cpu", "cuda"))
    assert [event.removed for event in host if event] == [event.removed for event in device if event]
    for there, here in zip(on_device, on_host, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def _removals(settings: PruningSettings, device: torch.device) -> tuple[list[Event | None], list[torch.Tensor]]:
    """The events of eight steps on a small network, and its products B A after them."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(24, 24) for _ in range(4)))
    model = attach(network, AdapterSettings(12, 12.0, False, 0.0, "all-linear", []), "default", 0)
    layers = adapted_layers(model, "default")
    for layer in layers:
        layer.B.data.normal_(std=0.3)
    inputs, targets = torch.randn(8, 16, 24), torch.randn(8, 16, 24)
    model.to(device)
    pruner, events = Pruner(settings, layers), []
    for step in range(8):
        nn.functional.mse_loss(model(inputs[step].to(device)), targets[step].to(device)).backward()
        pruner.observe()
        events.append(pruner.step(step + 1, (step + 1) / 8, None))
        model.zero_grad()
    return events, [(layer.B @ layer.A).detach().cpu() for layer in layers]


def test_slots_that_share_a_gpu(tmp_path: Path) -> None:
    tree = sweep_tree(tmp_path, tmp_path / "store") | {"num_trials": 4, "resources": {"gpus_per_worker": 0.5}}
    config, text = parse_sweep(tree, "test"), io.StringIO()
    with cluster.connected():
        result = run_sweep(config, config.storage, console=Console(file=text))
    assert "Slots: 2 on " in text.getvalue()
    assert (result.num_new, result.num_failed) == (4, 0)
    store = Store(config.storage)
    assert {record.environment.device for record in store.records()} == {torch.cuda.get_device_name()}
