"""One configuration from assets to record: resume, independence, failures, several workers."""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.methods.lora import Lora
from prunedlora.pruning import event as event_module
from prunedlora.pruning import pruner as pruner_module
from prunedlora.results.record import Failure, TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import StaleWriterError, Store
from prunedlora.training.agreement import WorkersDifferError
from prunedlora.training.data import BatchOrder
from prunedlora.training.distributed import PeerLostError, Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.begin import Begun, begin
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.last_words import FAILED, HARNESS, INTERRUPTED, forget_words, last_words, leave_words, words_left
from prunedlora.trial.outside_error import OutsideError
from tests.ranks import run_ranks
from tests.tiny import decoder_tree, sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)


@pytest.fixture(scope="module")
def assets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def tree(assets_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return sweep_tree(assets_folder, tmp_path / "store")


@pytest.fixture
def store(tree: dict[str, Any], tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "store"))
    store.create_or_open(tree)
    return store


def trial_of(tree: dict[str, Any], **values: Any) -> TrialConfig:
    base = parse_sweep(tree, "test").trial
    return trial_with(base, {path.replace("__", "."): value for path, value in values.items()})


def carry_on(*_: Any) -> Verdict:
    return Verdict.CONTINUE


def run(
    trial: TrialConfig,
    store: Store,
    *,
    assets: AssetCache | None = None,
    workers: Workers = ALONE,
    report: Callable[[dict[str, Any]], Verdict] = carry_on,
    progress: Callable[[int, int, float], Verdict] = carry_on,
    epoch: int = 1,
    **more: Any,
) -> str:
    return execute_trial(
        trial,
        trial_key(trial),
        store=store,
        assets=assets or AssetCache(CPU),
        workers=workers,
        epoch=epoch,
        max_attempts=2,
        report=report,
        progress=progress,
        **more,
    )


def record_of(trial: TrialConfig, store: Store) -> TrialRecord:
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


def adapter_of(trial: TrialConfig, store: Store, step: int) -> dict[str, torch.Tensor]:
    folder = Path(store.uri) / "trials" / trial_key(trial) / "adapters" / f"{step:06d}"
    return load_file(folder / "adapter_model.safetensors")


def same_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_trial_leaves_candidates_adapters_log_and_record(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree)
    seen: list[dict[str, Any]] = []
    assert run(trial, store, report=lambda c: (seen.append(c), Verdict.CONTINUE)[1]) == "completed"
    record = record_of(trial, store)
    assert [candidate.step for candidate in record.candidates] == [6, 12]
    assert [candidate.model_dump(mode="json") for candidate in record.candidates] == seen
    last = record.candidates[-1]
    assert set(last.ranks.values()) == {3}
    assert last.adapter_params < record.candidates[0].adapter_params
    assert last.figures["accuracy"].num_examples == 20
    assert last.file_bytes > last.adapter_bytes
    # Two blocks of width 16 (inner width 32) without the head: four square layers, and the two of the inner width.
    assert record.layer_widths is not None
    assert record.layer_widths.keys() == last.ranks.keys()
    assert last.served_slot_bytes == 2 * (4 * (16 + 16) + 2 * (16 + 32)) * 8 * 2
    assert record.embedding_widths is not None
    assert [width for _, width in record.embedding_widths.values()] == [16]
    assert last.certificate is not None
    assert last.certificate["max_logit_change"] > 0
    assert record.environment.data["num_examples"] == {"train": 80, "validation": 20, "test": 20}
    for candidate in record.candidates:
        outcomes = store.read_outcomes(record.key, candidate.name)
        assert outcomes is not None
        assert sum(outcomes.scores["accuracy"]) / 20 == candidate.figures["accuracy"].value
        assert math.fsum(outcomes.loss_sums) / sum(outcomes.num_targets) == candidate.figures["loss"].value
    *log, end = store.read_log(record.key)
    steps, made = ([line for line in log if ("candidate" in line) is is_made] for is_made in (False, True))
    for line, candidate in zip(made, record.candidates, strict=True):
        assert (line["step"], line["candidate"]) == (candidate.step, candidate.name)
        assert line["figures"] == {name: figure.value for name, figure in candidate.figures.items()}
        assert (line["adapter_params"], line["max_rank"]) == (candidate.adapter_params, candidate.max_rank)
    losses = [line["loss"] for line in steps]
    assert len(losses) == 12
    assert all(math.isfinite(loss) for loss in losses)
    assert record.evaluation_seconds == pytest.approx(sum(end["evaluation_seconds"].values()))
    assert record.evaluation_seconds == pytest.approx(sum(c.evaluation_seconds or 0.0 for c in record.candidates))
    share = record.evaluation_seconds / (record.evaluation_seconds + record.train_seconds)
    assert end["time"] == f"evaluation {share:.0%} of the time"
    assert set(end["evaluation_seconds"]) == {"loss", "export"}  # no answers are generated for a class
    assert store.checkpoints(record.key) == []
    assert sum(line["tokens"] for line in steps) == last.tokens_seen
    assert record.tokens_per_second == last.tokens_seen / record.train_seconds


@pytest.mark.parametrize("stop_at", [1, 4, 6, 9, 11])
def test_resumed_equals_uninterrupted_bit_for_bit(
    tree: dict[str, Any], store: Store, tmp_path: Path, stop_at: int
) -> None:
    """Paused at any step, also between two pruning events and at a milestone, and gone on with in a fresh process's
    state: adapters, figures and ranks are the same."""
    trial = trial_of(tree, adapter__dropout=0.1, pruning__recovery_strength=1.0)
    whole = Store(str(tmp_path / "whole"))
    whole.create_or_open(tree)
    assert run(trial, whole) == "completed"

    def pause(step: int, *_: float) -> Verdict:
        return Verdict.PAUSE if step == stop_at else Verdict.CONTINUE

    assert run(trial, store, progress=pause) == "paused"
    assert store.read_record(trial_key(trial)) is None
    assert run(trial, store) == "completed"
    for step in (6, 12):
        assert same_tensors(adapter_of(trial, store, step), adapter_of(trial, whole, step))
    left, right = record_of(trial, store).candidates, record_of(trial, whole).candidates
    assert [c.figures for c in left] == [c.figures for c in right]
    assert [c.tokens_seen for c in left] == [c.tokens_seen for c in right]
    assert record_of(trial, store).padding_share == record_of(trial, whole).padding_share


def test_passes_of_a_step_change_rounding_alone_and_resume_bit_for_bit(assets_folder: Path, tmp_path: Path) -> None:
    """Whole shares, passes of two examples, passes of 30 tokens; the last one also paused and gone on with."""
    tree = decoder_tree(assets_folder, tmp_path / "unused")
    assets = AssetCache(CPU)

    def pause_at_seven(step: int, *_: float) -> Verdict:
        return Verdict.PAUSE if step == 7 else Verdict.CONTINUE

    found: dict[str, tuple[list[dict[str, int]], list[dict[str, torch.Tensor]], int]] = {}
    for name, limit in {
        "whole": {},
        "examples": {"training__micro_batch_size": 2},
        "tokens": {"training__micro_batch_tokens": 30},
        "paused": {"training__micro_batch_tokens": 30},
    }.items():
        trial, store = trial_of(tree, **limit), Store(str(tmp_path / name))
        store.create_or_open(tree)
        if name == "paused":
            assert run(trial, store, progress=pause_at_seven) == "paused"
        assert run(trial, store, assets=assets) == "completed"
        record = record_of(trial, store)
        candidates = record.candidates
        adapters = [adapter_of(trial, store, step) for step in (6, 12)]
        order = BatchOrder(
            assets.get(trial).train, 8, trial.training.micro_batch_size, trial.training.micro_batch_tokens, trial.seed
        )
        by_hand = [order.token_counts(step, 1) for step in range(12)]
        log = [line for line in store.read_log(record.key) if "loss" in line]
        assert [(line["tokens"], line["positions"]) for line in log] == by_hand
        seen, padded = map(sum, zip(*by_hand, strict=True))
        assert candidates[-1].tokens_seen == seen < padded
        assert record.padding_share == 1 - seen / padded
        assert record.tokens_per_second == seen / record.train_seconds
        assert 0 < sum(line["seconds"] for line in log) <= record.train_seconds + 1e-9
        found[name] = [c.ranks for c in candidates], adapters, candidates[-1].tokens_seen
    ranks, adapters, tokens = found["whole"]
    for name in ("examples", "tokens"):
        assert (found[name][0], found[name][2]) == (ranks, tokens)
        for left, right in zip(found[name][1], adapters, strict=True):
            assert all(torch.allclose(left[key], right[key], atol=1e-4) for key in right)
    assert found["paused"][0] == found["tokens"][0]
    assert all(map(same_tensors, found["paused"][1], found["tokens"][1]))


def test_a_trial_after_others_in_a_slot_equals_the_trial_alone(
    tree: dict[str, Any], store: Store, tmp_path: Path
) -> None:
    """Bit for bit, and the base model is never written: neither by training nor by a trial that failed."""
    trial = trial_of(tree)
    alone = Store(str(tmp_path / "alone"))
    alone.create_or_open(tree)
    run(trial, alone)

    assets = AssetCache(CPU)
    base = assets.get(trial).base.model
    before = checksum(base)
    others = [
        trial_of(tree, pruning=None, adapter__method="lora", adapter__initial_rank=2, adapter__use_rslora=True),
        trial_of(tree, optimizer__learning_rate=1e30, optimizer__max_grad_norm=None),
        trial_of(tree, pruning__allocation="global", pruning__curvature="batch", seed=5),
    ]
    assert [run(other, store, assets=assets) for other in others] == ["completed", "failed", "completed"]
    assert assets.get(trial).base.model is base
    run(trial, store, assets=assets)
    assert same_tensors(adapter_of(trial, store, 12), adapter_of(trial, alone, 12))
    assert record_of(trial, store).candidates[-1].figures == record_of(trial, alone).candidates[-1].figures
    assert checksum(base) == before
    assert checksum(assets.get(trial).base.model) == before


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_sparsity_zero_is_lora_bit_for_bit(tree: dict[str, Any], store: Store) -> None:
    pruned = trial_of(tree, pruning__target_sparsity=0.0)
    plain = trial_of(tree, pruning=None, adapter__method="lora")
    run(pruned, store)
    run(plain, store)
    assert same_tensors(adapter_of(pruned, store, 12), adapter_of(plain, store, 12))


def test_nan_loss_fails_the_trial_with_step_and_learning_rate(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree, optimizer__learning_rate=1e30, optimizer__max_grad_norm=None)
    assert run(trial, store) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.type == "NonFiniteError"
    assert "at step" in failure.message
    assert "(learning rate " in failure.message
    assert failure.step is not None


def test_stopped_by_verdict(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree)
    assert run(trial, store, report=lambda _: Verdict.STOP) == "stopped"
    record = record_of(trial, store)
    assert (record.status, [c.step for c in record.candidates]) == ("stopped", [6])


def test_a_trial_whose_workers_keep_dying_fails(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree)
    for _ in range(2):
        store.begin_attempt(trial_key(trial), 1)
    assert run(trial, store) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert "this trial was interrupted 2 times; its workers left no reason" in failure.message


def test_a_rank_that_fails_alone_leaves_its_reason(tree: dict[str, Any], store: Store) -> None:
    """Rank 0 never hears of it: Ray Train restarts the workers, and the next attempt is over before it trains."""
    trial = trial_of(tree, training__batch_size=1)
    store.begin_attempt(trial_key(trial), 1)
    with pytest.raises(ValueError, match="below the 2 workers"):
        run(trial, store, workers=_Alone(1, 2, CPU))
    steps: list[int] = []
    assert run(trial, store, progress=lambda step, *_: (steps.append(step), Verdict.CONTINUE)[1]) == "failed"
    assert steps == []
    record = record_of(trial, store)
    assert record.failure is not None
    assert record.failure.message == "rank 1 failed: SettingsError: training.batch_size 1 is below the 2 workers"
    assert (record.failure.type, record.failure.fault, record.attempts) == ("RankFailedError", "user", 2)
    assert run(trial, store, epoch=2) == "completed"  # --retry-failed


@pytest.mark.parametrize(
    "error", [OutsideError("the board is gone"), StoreError("503 slow down")], ids=["around it", "storage"]
)
def test_what_is_not_the_trials_doing_leaves_no_record_and_it_goes_on(
    tree: dict[str, Any], store: Store, error: Exception
) -> None:
    """The workers are started again, as after a death; hours of training are not marked failed."""
    trial = trial_of(tree)

    def unlucky(_: dict[str, Any]) -> Verdict:
        raise error

    for _ in range(2):
        with pytest.raises(type(error)):
            run(trial, store, report=unlucky)
        assert store.read_record(trial_key(trial)) is None
    assert run(trial, store) == "failed"  # it had its attempts
    failure = record_of(trial, store).failure
    assert failure is not None
    assert f"this trial was interrupted 2 times; rank 0 was interrupted: {type(error).__name__}: " in failure.message
    lucky = trial_of(tree, seed=1)
    with pytest.raises(type(error)):
        run(lucky, store, report=unlucky)
    assert run(lucky, store) == "completed"
    assert [candidate.step for candidate in record_of(lucky, store).candidates] == [6, 12]


class _LosesItsPeer(Workers):
    """Rank 0 of two, which are together until the first evaluation."""

    def from_first(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any]:
        if value is None:  # nothing is wrong with what was loaded
            return [None, None]
        raise PeerLostError("another worker is gone: Connection closed by peer")

    def sum_(self, tensors: Any) -> None:
        for tensor in tensors:  # the other one has the same
            tensor *= 2


def test_a_rank_that_hears_of_anothers_failure_puts_it_on_record(tree: dict[str, Any], store: Store) -> None:
    trial, key = trial_of(tree), trial_key(trial_of(tree))
    with pytest.raises(PeerLostError):  # killed: nobody's failure
        run(trial, store, workers=_LosesItsPeer(0, 2, CPU))
    assert store.read_record(key) is None
    why = Failure(type="OutOfMemoryError", message="no room", step=6, learning_rate=0.1, traceback="")

    def fails_meanwhile(*_: Any) -> Verdict:
        leave_words(store, key, (1, 2), 1, why, FAILED)
        return Verdict.CONTINUE

    with pytest.raises(PeerLostError):
        run(trial, store, workers=_LosesItsPeer(0, 2, CPU), progress=fails_meanwhile)
    failure = record_of(trial, store).failure
    assert failure is not None
    assert (failure.type, failure.message) == ("RankFailedError", "rank 1 failed: OutOfMemoryError: no room")


def words(kind: str, message: str) -> Failure:
    return Failure(type=kind, message=message, fault="trial", step=None, learning_rate=None, traceback="")


def test_words_are_kept_until_there_is_a_record(tree: dict[str, Any], store: Store) -> None:
    """A preemption between, or another driver, must not make a trial train whole again for a rank that fails alone, nor
    ask a harness again that breaks the group."""
    key = trial_key(trial_of(tree))
    for attempt in (1, 2):
        assert begin(store, key, 1, 9, None).attempt == attempt
        leave_words(store, key, (1, attempt), 1, words("A", "b"), INTERRUPTED)
        assert last_words(words_left(store, key), (1, attempt)) == "rank 1 was interrupted: A: b"
    leave_words(store, key, (1, 2), 0, words("C", "d"), FAILED)
    leave_words(store, key, (1, 2), 1, words("E", "f"), HARNESS)
    assert last_words(words_left(store, key), (1, 2)) == "rank 0 failed: C: d"
    for epoch in (1, 1, 2, 2):
        begun = begin(store, key, epoch, 9, None)
        assert begun.failure is not None
        assert (begun.failure.type, begun.failure.message) == ("RankFailedError", "rank 0 failed: C: d")
        assert begun.failure.fault == "trial"
        assert begun.harness_failure == words("E", "f")
        assert last_words(words_left(store, key), (epoch, begun.attempt)) == (
            "its workers left no reason (killed, for memory perhaps, or the storage took none); see their logs"
        )
    forget_words(store, key)
    begun = begin(store, key, 2, 9, None)
    assert (begun.failure, begun.harness_failure) == (None, None)


def test_words_that_outlive_their_record_do_not_count(tree: dict[str, Any], store: Store) -> None:
    """`--retry-failed` trains again, though another rank left its words after rank 0 had written the record."""
    trial = trial_of(tree, adapter__target_modules=["no_such_layer"])
    key = trial_key(trial)
    assert run(trial, store) == "failed"
    assert words_left(store, key) == []
    leave_words(store, key, (1, 1), 1, words("A", "b"), FAILED)
    assert begin(store, key, 2, 9, None).failure is None


def test_a_gradient_that_is_not_finite_fails_the_trial(
    tree: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss with an infinite gradient, as float16 and bad kernels give; log and facts are kept."""
    attach = Lora.attach

    def attach_poisoned(self: Lora, model: torch.nn.Module, name: str) -> torch.nn.Module:
        adapted = attach(self, model, name)
        parameter = next(p for n, p in adapted.named_parameters() if "lora_A" in n)
        seen: list[None] = []

        def poison(grad: torch.Tensor) -> torch.Tensor:
            seen.append(None)
            return grad * math.inf if len(seen) == 4 else grad

        parameter.register_hook(poison)
        return adapted

    monkeypatch.setattr(Lora, "attach", attach_poisoned)
    observed: list[float] = []
    monkeypatch.setattr(Lora, "observe", lambda self, num_targets: observed.append(num_targets))
    trial = trial_of(tree, pruning=None, adapter__method="lora")
    assert run(trial, store) == "failed"
    assert observed == [8.0] * 3  # the fourth step's gradients enter no average
    record = record_of(trial, store)
    assert record.failure is not None
    assert "gradient norm is" in record.failure.message
    assert record.failure.step == 3
    assert record.environment.data["num_examples"]["train"] == 80
    assert len(store.read_log(record.key)) == 3


def test_examples_of_one_trial_are_not_those_of_the_next(tree: dict[str, Any], store: Store) -> None:
    assets = AssetCache(CPU)
    for most in (None, 5, 20):
        trial = trial_of(tree, evaluation__max_examples=most)
        run(trial, store, assets=assets)
        assert record_of(trial, store).candidates[-1].figures["loss"].num_examples == (most or 20)


def test_the_log_has_neither_holes_nor_repeats_after_a_kill(
    tree: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed two steps after a checkpoint; the steps since then are done again."""
    trial = trial_of(tree)

    class KilledError(BaseException):
        pass

    def kill(step: int, *_: float) -> Verdict:
        if step == 10:
            raise KilledError
        return Verdict.CONTINUE

    with pytest.raises(KilledError):
        run(trial, store, progress=kill, checkpoint_every_steps=4)
    assert run(trial, store) == "completed"
    steps = [line["step"] for line in store.read_log(trial_key(trial)) if "loss" in line]
    assert steps == list(range(1, 13))


def test_a_replaced_driver_writes_nothing(tree: dict[str, Any], store: Store) -> None:
    store.storage.write_text("driver.json", json.dumps({"epoch": 2}))
    with pytest.raises(StaleWriterError):
        run(trial_of(tree), store, epoch=1)
    assert store.records() == []


def test_a_broken_checkpoint_is_named_in_the_record(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree)
    run(trial, store, progress=lambda step, *_: Verdict.PAUSE if step == 5 else Verdict.CONTINUE)
    folder = next((Path(store.uri) / "trials" / trial_key(trial) / "checkpoints").iterdir())
    (folder / "tensors.safetensors").write_bytes(b"x")
    assert run(trial, store) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert failure.type == "CheckpointError"
    assert str(folder) in failure.message


def test_a_head_that_would_stay_random_is_refused(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree, adapter__head_modules=["pooler"])
    assert run(trial, store) == "failed"
    failure = record_of(trial, store).failure
    assert failure is not None
    assert "add 'classifier' to adapter.head_modules" in failure.message


def test_fewer_examples_in_a_batch_than_workers(tree: dict[str, Any], store: Store) -> None:
    trial = trial_of(tree, training__batch_size=1)
    with pytest.raises(ValueError, match=r"training.batch_size 1 is below the 2 workers"):
        run(trial, store, workers=_Alone(0, 2, CPU))


class _Alone(Workers):
    """One of two workers, the other one saying the same; rank 0 says that this is the first attempt."""

    def from_first(self, value: Any) -> Any:
        return value or Begun(1, None, None)

    def gather(self, value: Any) -> list[Any]:
        return [value] * self.num_workers


def _worker(rank: int, num_workers: int, uri: str, config: dict[str, Any], rendezvous: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    if num_workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=num_workers)
    run(TrialConfig.model_validate(config), Store(uri), workers=Workers(rank, num_workers, CPU))
    if num_workers > 1:
        dist.destroy_process_group()


def _worker_that_errs(rank: int, uri: str, config: dict[str, Any], rendezvous: str) -> None:
    """Rank 1 gets another cost than rank 0 for the first component of every layer."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    if rank == 1:
        gather = event_module.gather

        def gather_wrongly(*inputs: Any, **named: Any) -> Any:
            known = gather(*inputs, **named)
            for gram in known.evidence.gram.values():
                gram.diagonal[:, 0] = 0.0
            return known

        pruner_module.gather = gather_wrongly
    workers = Workers(rank, 2, CPU)
    try:
        run(TrialConfig.model_validate(config), Store(uri), workers=workers)
    except WorkersDifferError:
        os._exit(7)


def test_workers_that_remove_different_components_are_started_again(tree: dict[str, Any], tmp_path: Path) -> None:
    """Both ranks hear of it, before their gradients are added up or a candidate is made; it is no failure of the
    trial: no record, and the reason among the last words."""
    trial = trial_of(tree, pruning__allocation="uniform")
    store = Store(str(tmp_path / "store"))
    store.create_or_open(tree)
    store.begin_attempt(trial_key(trial), 1)
    arguments = (store.uri, trial.model_dump(), str(tmp_path / "rendezvous"))
    assert run_ranks(_worker_that_errs, 2, *arguments) == [7, 7]
    assert store.read_record(trial_key(trial)) is None
    assert re.search(
        r"rank \d was interrupted: WorkersDifferError: the 2 workers",
        last_words(words_left(store, trial_key(trial)), (1, 2)),
    )
    assert run(trial, store) == "failed"  # it had its attempts
    failure = record_of(trial, store).failure
    assert failure is not None
    assert "WorkersDifferError: the 2 workers of this training have removed different components" in failure.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("curvature", "batch_size", "micro_batch_size"),
    [("batch", 8, 3), ("token", 7, 1)],
)
def test_two_workers_remove_what_one_removes(
    tree: dict[str, Any], tmp_path: Path, curvature: str, batch_size: int, micro_batch_size: int
) -> None:
    """Half of each batch each (of seven: four and three, and an empty pass), one all-reduce: the same components go,
    the weights agree to rounding."""
    sizes = {"training__batch_size": batch_size, "training__micro_batch_size": micro_batch_size}
    trial = trial_of(tree, pruning__curvature=curvature, pruning__allocation="global", **sizes)
    stores = []
    for num_workers in (1, 2):
        store = Store(str(tmp_path / f"{num_workers}"))
        store.create_or_open(tree)
        stores.append(store)
        arguments = (num_workers, store.uri, trial.model_dump(), str(tmp_path / "rendezvous"))
        assert run_ranks(_worker, num_workers, *arguments) == [0] * num_workers
    one, two = (record_of(trial, store) for store in stores)
    assert two.environment.num_workers == 2
    assert [c.ranks for c in one.candidates] == [c.ranks for c in two.candidates]
    assert [c.tokens_seen for c in one.candidates] == [c.tokens_seen for c in two.candidates]
    train = AssetCache(CPU).get(trial).train
    order = BatchOrder(train, batch_size, micro_batch_size, None, trial.seed)
    for num_workers, record in ((1, one), (2, two)):
        tokens, positions = map(sum, zip(*(order.token_counts(i, num_workers) for i in range(12)), strict=True))
        assert record.padding_share == 1 - tokens / positions
    left, right = (adapter_of(trial, store, 12) for store in stores)
    assert left.keys() == right.keys()
    assert all(torch.allclose(left[name], right[name], atol=1e-4) for name in left)
