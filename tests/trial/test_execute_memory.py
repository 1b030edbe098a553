"""Too little memory: passes are halved, the step begins anew; the result is that of smaller passes from then on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from prunedlora.config.identity import trial_key
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.registry import names
from prunedlora.results.record import MemoryFit, TrialRecord
from prunedlora.results.store import Store
from prunedlora.tasks.text_classification import TextClassification
from prunedlora.training.data import BatchOrder
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.ranks import run_ranks
from tests.trial.test_execute_methods import trial_of

CPU = torch.device("cpu")
FULL, HALF = 8, 4
Loss = Callable[[TextClassification, nn.Module, dict[str, Tensor]], tuple[Tensor, int]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


class Memory:
    """A device that holds `most` examples, or as many more as `checkpointed` says with gradient checkpointing. When it
    does not suffice, all of a pass has been done: gradients, statistics and random numbers are as dirty as they get."""

    def __init__(self, most: int, *, checkpointed: int = 0, only_at: int | None = None) -> None:
        self.most, self.checkpointed, self.only_at = most, checkpointed, only_at
        self.num_failed = 0
        self.step = 0

    def loss(self, original: Loss) -> Loss:
        def loss(task: TextClassification, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
            total, num_targets = original(task, model, batch)
            on = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
            most = max(self.most, self.checkpointed) if on else self.most
            if num_targets > most and self.only_at in (None, self.step):
                self.num_failed += 1
                total.backward()
                torch.rand(3)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return total, num_targets

        return loss


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Memory], Memory]:
    original = TextClassification.loss

    def limit(memory: Memory) -> Memory:
        monkeypatch.setattr(TextClassification, "loss", memory.loss(original))
        return memory

    return limit


def run(
    trial: TrialConfig,
    store: Store,
    assets: AssetCache | None = None,
    memory: Memory | None = None,
    pause_at: int | None = None,
    workers: Workers | None = None,
) -> str:
    def progress(step: int, *_: float) -> Verdict:
        if memory is not None:
            memory.step = step
        return Verdict.PAUSE if step == pause_at else Verdict.CONTINUE

    store.create_or_open({})
    return execute_trial(
        trial,
        trial_key(trial),
        store=store,
        assets=assets or AssetCache(CPU),
        workers=workers or Workers(0, 1, CPU),
        epoch=1,
        max_attempts=2,
        report=lambda _: Verdict.CONTINUE,
        progress=progress,
    )


def record_of(trial: TrialConfig, store: Store) -> TrialRecord:
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


def findings(trial: TrialConfig, store: Store) -> tuple[Any, ...]:
    """Losses, norms and ranks of all steps, figures, and whatever tensors were exported."""
    record = record_of(trial, store)
    lines = [line for line in store.read_log(record.key) if "loss" in line]
    steps = [{k: v for k, v in line.items() if k not in ("fit", "seconds", "positions")} for line in lines]
    tensors = []
    for candidate in record.candidates:
        if candidate.adapter_path is not None:
            path = Path(store.uri) / "trials" / record.key / candidate.adapter_path / "adapter_model.safetensors"
            tensors.append({name: tensor.tolist() for name, tensor in load_file(path).items()})
    return steps, [candidate.figures for candidate in record.candidates], tensors


@pytest.mark.parametrize("method", names("method"))
def test_what_is_begun_anew_equals_what_began_so(
    method: str, folder: Path, tmp_path: Path, limited: Callable[[Memory], Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, for every method, dropout on: memory that lacks at step 5, after a pass that was done to its end,
    gives what passes of half the size from step 5 on give. Evaluation has its memory."""
    trial = trial_of(method, folder)
    if method != "full":
        trial = trial_with(trial, {"adapter.dropout": 0.2})
    assets = AssetCache(CPU)
    found, told = Store(str(tmp_path / "found")), Store(str(tmp_path / "told"))
    memory = limited(Memory(HALF, only_at=5))
    assert run(trial, found, assets, memory) == "completed"
    assert memory.num_failed == 1
    assert record_of(trial, found).fit == MemoryFit(
        halvings=1, evaluation_halvings=0, gradient_checkpointing=False, micro_batch_size=HALF
    )
    (line,) = [line for line in found.read_log(trial_key(trial)) if "fit" in line]
    assert (line["step"], line["fit"]["halvings"]) == (6, 1)

    whole = BatchOrder.micro_batches

    def halves_from_5(self: BatchOrder, step: int, rank: int, num_workers: int, *, halvings: int = 0) -> Any:
        return whole(self, step, rank, num_workers, halvings=int(step >= 5))

    monkeypatch.setattr(BatchOrder, "micro_batches", halves_from_5)
    limited(Memory(FULL))
    assert run(trial, told, assets) == "completed"
    assert findings(trial, found) == findings(trial, told)


@pytest.mark.slow
def test_what_is_found_is_what_would_have_been_set(
    folder: Path, tmp_path: Path, limited: Callable[[Memory], Memory]
) -> None:
    """From the first step; by examples and by tokens; and a resumed run begins with what was found."""
    base, assets = trial_of("prunedlora", folder), AssetCache(CPU)
    longest = max(len(feature.input_ids) for feature in assets.get(base).train)
    sizes = {
        "asked": {"training.micro_batch_size": 8},
        "set": {"training.micro_batch_size": 2},
        "asked for tokens": {"training.micro_batch_tokens": 8 * longest},
        "tokens set": {"training.micro_batch_tokens": 2 * longest},
    }
    trials = {name: trial_with(base, values) for name, values in sizes.items()}
    stores = {name: Store(str(tmp_path / name)) for name in sizes}
    for name, trial in trials.items():
        memory = limited(Memory(8 if name.endswith("set") else 2))
        assert run(trial, stores[name], assets, pause_at=7) == "paused"
        at_pause = memory.num_failed
        assert run(trial, stores[name], assets) == "completed"
        assert (at_pause, memory.num_failed) == ((0, 0) if name.endswith("set") else (at_pause, at_pause))
    assert findings(trials["asked"], stores["asked"]) == findings(trials["set"], stores["set"])
    fits = {name: record_of(trial, stores[name]).fit for name, trial in trials.items()}
    assert fits["asked"] == MemoryFit(
        halvings=2, evaluation_halvings=0, gradient_checkpointing=False, micro_batch_size=2
    )
    tokens = fits["asked for tokens"]
    assert tokens is not None
    assert (tokens.micro_batch_size, tokens.micro_batch_tokens) == (None, 8 * longest >> tokens.halvings)
    assert tokens.halvings > 0


@pytest.mark.slow
def test_a_single_example_switches_checkpointing_on_for_this_trial_alone(
    folder: Path, tmp_path: Path, limited: Callable[[Memory], Memory]
) -> None:
    """What comes out is what one example at a time gives; the next trial in the slot begins with the whole batch."""
    trial, assets, store = trial_of("prunedlora", folder), AssetCache(CPU), Store(str(tmp_path / "store"))
    single = trial_with(trial, {"training.micro_batch_size": 1})
    limited(Memory(FULL))
    assert run(single, store, assets) == "completed"
    memory = limited(Memory(0, checkpointed=1))
    assert run(trial, store, assets, pause_at=4) == "paused"
    assert run(trial, store, AssetCache(CPU)) == "completed"
    assert memory.num_failed == 4
    assert record_of(trial, store).fit == MemoryFit(
        halvings=3, evaluation_halvings=0, gradient_checkpointing=True, micro_batch_size=1
    )
    assert findings(trial, store) == findings(single, store)

    base = assets.get(trial).base.model
    assert base.training is False
    assert any(getattr(module, "gradient_checkpointing", False) for module in base.modules())  # as it was left
    limited(Memory(FULL))
    after, alone = trial_with(trial, {"seed": 5}), Store(str(tmp_path / "alone"))
    assert run(after, store, assets) == "completed"
    assert run(after, alone, AssetCache(CPU)) == "completed"
    assert record_of(after, store).fit == record_of(after, alone).fit
    assert findings(after, store) == findings(after, alone)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (None, "tokens with gradient checkpointing (step 0, worker 0, batch of 8 in passes halved 3 times); set"),
        (
            False,
            "without gradient checkpointing, which model.gradient_checkpointing or the model does not allow",
        ),
        (True, "or adapter.initial_rank, or a model.quantization, or take a device with more memory: CUDA out of"),
    ],
)
def test_nothing_left_to_try_fails_the_trial(
    setting: bool | None, message: str, folder: Path, tmp_path: Path, limited: Callable[[Memory], Memory]
) -> None:
    trial, store = trial_with(trial_of("lora", folder), {"model.gradient_checkpointing": setting}), Store(str(tmp_path))
    limited(Memory(0))
    assert run(trial, store) == "failed"
    record = record_of(trial, store)
    assert record.failure is not None
    assert record.failure.type == "TooLittleMemoryError"
    assert message in record.failure.message
    assert record.fit is not None
    assert (record.fit.halvings, record.fit.gradient_checkpointing) == (3, setting is not False)


def test_an_evaluation_halves_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes of twenty examples in batches of five, at both milestones, found at the first."""
    trial, store = trial_of("lora", folder), Store(str(tmp_path / "store"))
    small = trial_with(trial, {"evaluation.batch_size": 5})
    trial = trial_with(trial, {"evaluation.batch_size": 20})
    original, batches = TextClassification.evaluate, []

    def evaluate(task: Any, model: nn.Module, features: Any, *rest: Any, **options: Any) -> Any:
        batches.append(len(features))
        if len(features) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(task, model, features, *rest, **options)

    monkeypatch.setattr(TextClassification, "evaluate", evaluate)
    assert run(trial, store) == "completed"
    assert batches == [20, 10, *[5] * 8]
    assert run(small, store) == "completed"
    assert findings(trial, store) == findings(small, store)
    fit = record_of(trial, store).fit
    assert fit is not None
    assert fit.evaluation_halvings == 2
    (line,) = [line for line in store.read_log(trial_key(trial)) if "fit" in line]
    assert (line["step"], line["fit"]["evaluation_halvings"]) == (6, 2)


def _worker(rank: int, configs: dict[int, dict[str, Any]], uri: str, rendezvous: str) -> None:
    """One of two, with memory of its own: rank 1 holds as many examples as `configs` says, by trial."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    original = TextClassification.loss
    workers, assets = Workers(rank, 2, CPU), AssetCache(CPU)
    for most, config in configs.items():
        TextClassification.loss = Memory(most if rank == 1 else FULL).loss(original)  # type: ignore[method-assign]
        status = run(TrialConfig.model_validate(config), Store(uri), assets, workers=workers)
        assert status == ("failed" if most == 0 else "completed")
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_workers_halve_when_one_lacks_memory(folder: Path, tmp_path: Path) -> None:
    """Rank 1 alone holds two examples of its four: both take halves, and nobody waits for the other. Where it holds
    none both fail together, and go on with the next trial."""
    store = Store(str(tmp_path / "store"))
    store.create_or_open({})
    values = {"adapter.dropout": 0.2, "model.gradient_checkpointing": False, "training.num_steps": 6}
    base = trial_with(trial_of("prunedlora", folder), values | {"evaluation.milestones": []})
    sizes = {2: None, 0: 3, 4: 2}
    trials = {most: trial_with(base, {"training.micro_batch_size": size}) for most, size in sizes.items()}
    configs = {most: trial.model_dump() for most, trial in trials.items()}
    arguments = (configs, store.uri, str(tmp_path / "rendezvous"))
    assert run_ranks(_worker, 2, *arguments) == [0, 0]
    halved, failed, told = (record_of(trial, store) for trial in trials.values())
    assert halved.fit == MemoryFit(halvings=1, evaluation_halvings=0, gradient_checkpointing=False, micro_batch_size=2)
    assert told.fit == MemoryFit(halvings=0, evaluation_halvings=0, gradient_checkpointing=False, micro_batch_size=2)
    assert findings(trials[2], store) == findings(trials[4], store)
    assert failed.failure is not None
    assert failed.failure.type == "TooLittleMemoryError"
    assert "(step 0, worker 1, batch of 8 in passes halved 1 times)" in failed.failure.message
