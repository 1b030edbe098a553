"""Scaled losses: a power of two leaves no bit changed in what is trained in float32; what overflows begins anew with
half of it; float16 trains, is verified and exported as the other types are."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from prunedlora.adapters.verify import LOW_PRECISION_TOLERANCE
from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.candidate_test import measure_test
from prunedlora.delivery.form import Form
from prunedlora.methods.prunedlora import PrunedLora
from prunedlora.registry import names
from prunedlora.results.store import SWEEP_FILE, Store
from prunedlora.tasks.text_classification import TextClassification
from prunedlora.training import loss_scale
from prunedlora.training.distributed import Workers
from prunedlora.training.loss_scale import LossScale
from prunedlora.trial import assemble
from prunedlora.trial.assets import AssetCache
from tests.ranks import run_ranks
from tests.tiny import decoder_tree
from tests.trial.test_execute_memory import CPU, findings, record_of, run
from tests.trial.test_execute_methods import trial_of

EXACT, TOO_LARGE = 2.0**10, 2.0**130
FORMS: dict[str, dict[str, Any]] = {
    "token": {"curvature": "token", "recovery_strength": 0.5},
    "batch": {"curvature": "batch", "recovery_strength": 0.5},
    "token, with the gradient": {"curvature": "token", "gradient_cap": 0.5, "recovery_strength": 1.0},
    "batch, with the gradient": {"curvature": "batch", "gradient_cap": 0.5, "recovery_strength": 1.0},
    "token, both sides": {"curvature": "token", "recovery_side": "both", "recovery_strength": 0.5},
    "whitened": {"basis": "whitened"},
    "svd": {"basis": "svd"},
}
"""What is made of gradients, in every power; each criterion has it in tests/pruning/test_pruner.py."""
PLAIN = {"token, with the gradient", "batch", "whitened"}
"""Those that the plain suite tries."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], None]:
    """Sets what losses are multiplied by from the first step on, whatever a training computes in."""

    def begin_with(scale: float | None) -> None:
        found = None if scale is None else LossScale(scale)
        monkeypatch.setattr(assemble, "loss_scale_for", lambda _: found and LossScale(found.scale))

    return begin_with


def changes(trial: TrialConfig, store: Store) -> list[tuple[int, float]]:
    return [(line["step"], line["loss_scale"]) for line in store.read_log(trial_key(trial)) if line.get("loss_scale")]


def trained(trial: TrialConfig, store: Store, assets: AssetCache, pause_at: int | None = None) -> Any:
    """What comes out, without the scale's changes, which are in the log for themselves."""
    if pause_at is not None:
        assert run(trial, store, assets, pause_at=pause_at) == "paused"
    assert run(trial, store, assets) == "completed"
    return unscaled(findings(trial, store))


def unscaled(found: tuple[Any, ...]) -> tuple[Any, ...]:
    steps, *others = found
    return [{k: v for k, v in line.items() if k != "loss_scale"} for line in steps], *others


@pytest.mark.parametrize("method", names("method"))
def test_overflow_halves_until_it_is_finite_and_leaves_no_bit_changed(
    method: str, folder: Path, tmp_path: Path, assets: AssetCache, scaled: Callable[[float | None], None]
) -> None:
    """Of every method, dropout on, paused and resumed under a scale that was halved: what is trained without."""
    trial = trial_of(method, folder)
    if method != "full":
        trial = trial_with(trial, {"adapter.dropout": 0.2})
    plain, store = Store(str(tmp_path / "plain")), Store(str(tmp_path / "scaled"))
    scaled(None)
    expected = trained(trial, plain, assets)
    assert changes(trial, plain) == []
    scaled(TOO_LARGE)
    assert trained(trial, store, assets, pause_at=7) == expected
    found = changes(trial, store)
    assert found[0][0] == 1
    assert all(1 < later < earlier for (_, earlier), (_, later) in itertools.pairwise([(0, TOO_LARGE), *found]))


@pytest.mark.parametrize(
    "pruning",
    [pytest.param(FORMS[name], id=name, marks=() if name in PLAIN else pytest.mark.slow) for name in FORMS],
)
def test_a_power_of_two_shows_nowhere_in_what_is_pruned(
    pruning: dict[str, Any], folder: Path, tmp_path: Path, assets: AssetCache, scaled: Callable[[float | None], None]
) -> None:
    trial = trial_with(trial_of("prunedlora", folder), {f"pruning.{name}": value for name, value in pruning.items()})
    plain, store = Store(str(tmp_path / "plain")), Store(str(tmp_path / "scaled"))
    scaled(None)
    expected = trained(trial, plain, assets)
    scaled(EXACT)
    assert trained(trial, store, assets) == expected
    assert changes(trial, store) == []


def test_it_is_doubled_and_resumed_where_it_was(
    folder: Path, tmp_path: Path, assets: AssetCache, scaled: Callable[[float | None], None], monkeypatch: Any
) -> None:
    """After five steps without an overflow, here; a pause after three of them is none to the count."""
    monkeypatch.setattr(loss_scale, "STEPS_TO_DOUBLE", 5)
    trial = trial_of("prunedlora", folder)
    scaled(EXACT)
    found = {}
    for name, pause_at in {"whole": None, "paused": 8}.items():
        store = Store(str(tmp_path / name))
        found[name] = (trained(trial, store, assets, pause_at), changes(trial, store))
    assert found["whole"] == found["paused"]
    assert found["whole"][1] == [(5, 2 * EXACT), (10, 4 * EXACT)]


def test_a_loss_that_is_not_finite_fails_at_once(
    folder: Path, tmp_path: Path, assets: AssetCache, scaled: Callable[[float | None], None], monkeypatch: Any
) -> None:
    """No scale mends what the forward pass has made."""
    original, seen = TextClassification.loss, []

    def loss(task: Any, model: Any, batch: Any) -> Any:
        total, num_targets = original(task, model, batch)
        seen.append(None)
        return (total * math.nan if len(seen) == 4 else total), num_targets

    monkeypatch.setattr(TextClassification, "loss", loss)
    scaled(EXACT)
    trial, store = trial_of("lora", folder), Store(str(tmp_path))
    assert run(trial, store, assets) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.message.startswith("loss is nan at step 3 (learning rate ")
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("broken", "message"),
    [("gradient", "gradient norm is inf at step 0"), ("statistic", "the largest of the method's statistics is nan at")],
)
def test_what_is_not_finite_without_scaling_either_fails(
    broken: str,
    message: str,
    folder: Path,
    tmp_path: Path,
    assets: AssetCache,
    scaled: Callable[[float | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After as many halvings as there are; a step that begins anew leaves nothing in what is learned of the step."""
    discarded: list[None] = []
    monkeypatch.setattr(PrunedLora, "discard", lambda self: discarded.append(None))
    if broken == "statistic":
        monkeypatch.setattr(PrunedLora, "statistics", lambda self: [torch.tensor([1.0, math.nan]), torch.zeros(0, 0)])
    else:
        original = PrunedLora.penalise

        def penalise(self: PrunedLora) -> None:
            original(self)
            self._layers[0].B.grad.fill_(math.inf)

        monkeypatch.setattr(PrunedLora, "penalise", penalise)
    scaled(EXACT)
    trial, store = trial_of("prunedlora", folder), Store(str(tmp_path))
    assert run(trial, store, assets) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.type == "NonFiniteError"
    assert failure.message.startswith(message)
    assert len(discarded) == 10


def _worker(rank: int, configs: list[tuple[str, float | None, dict[str, Any]]], rendezvous: str) -> None:
    """One of two, through all the trials: where they are stored, what losses are multiplied by, the configuration."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    workers, assets = Workers(rank, 2, CPU), AssetCache(CPU)
    for uri, scale, config in configs:
        assemble.loss_scale_for = lambda _, scale=scale: scale and LossScale(scale)
        assert run(TrialConfig.model_validate(config), Store(uri), assets, workers=workers) == "completed"
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_halve_alike(folder: Path, tmp_path: Path) -> None:
    trial = trial_with(trial_of("prunedlora", folder), {"adapter.dropout": 0.2, "training.num_steps": 6})
    stores = {scale: Store(str(tmp_path / str(scale))) for scale in (None, EXACT, TOO_LARGE)}
    for store in stores.values():
        store.create_or_open({})
    configs = [(store.uri, scale, trial.model_dump()) for scale, store in stores.items()]
    arguments = (configs, str(tmp_path / "rendezvous"))
    assert run_ranks(_worker, 2, *arguments) == [0, 0]
    plain, exact, halved = (unscaled(findings(trial, store)) for store in stores.values())
    assert plain == exact == halved
    assert changes(trial, stores[EXACT]) == []
    assert changes(trial, stores[TOO_LARGE])


@pytest.mark.parametrize("method", ["prunedlora", pytest.param("full", marks=pytest.mark.slow)])
def test_float16_learns_what_float32_learns(method: str, folder: Path, tmp_path: Path) -> None:
    """The same losses to three digits, and the same ranks; verified in half precision's tolerance, and exported."""
    base, store = trial_of(method, folder), Store(str(tmp_path / "store"))
    trials = {dtype: trial_with(base, {"model.dtype": dtype}) for dtype in ("float32", "float16")}
    for trial in trials.values():
        assert run(trial, store) == "completed"
    whole, half = ([line["loss"] for line in findings(trial, store)[0]] for trial in trials.values())
    assert half == pytest.approx(whole, abs=2e-2)
    assert half != whole
    key, record = trial_key(trials["float16"]), record_of(trials["float16"], store)
    assert record.environment.model["dtype"] == "float16"
    assert [scale for _, scale in changes(trials["float16"], store)][-1] < loss_scale.INITIAL
    if method == "full":
        return
    last = record.candidates[-1]
    assert last.certificate is not None
    assert last.certificate["tolerance"] == LOW_PRECISION_TOLERANCE
    workers = Workers(0, 1, CPU)
    store.storage.write_text(SWEEP_FILE, "objectives: {loss: minimize, adapter_params: minimize}\n")  # run writes none
    measure_test(trials["float16"], key, last.name, store=store, assets=AssetCache(CPU), workers=workers)
    for name, form in {"plain": Form(), "half": Form(slot=8, dtype="float16"), "merged": Form(merged=True)}.items():
        export_candidate(store, key, tmp_path / name, check=True, form=form)


def test_float16_writes_answers(tmp_path: Path) -> None:
    """Paused and resumed: bit for bit what is trained at a stretch."""
    trial = parse_sweep(decoder_tree(tmp_path, "unused", metric="exact_match", max_new_tokens=4), "test").trial
    trial = trial_with(trial, {"model.dtype": "float16"})
    found = []
    for name, pause_at in {"whole": None, "paused": 3}.items():
        store = Store(str(tmp_path / name))
        found.append((trained(trial, store, AssetCache(CPU), pause_at), changes(trial, store)))
    assert found[0] == found[1]
