"""One configuration from its assets to its record: what a slot does with each piece of work, jobs/train.py with one.

All workers of a slot call these functions alike; rank 0 alone writes to the store.
"""

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.adapters.size import ServedLayers, served_layers
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, Failure, MemoryFit, TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import StaleWriterError, Store
from prunedlora.training.distributed import PeerLostError, Workers
from prunedlora.training.loop import NonFiniteError, StepLog, Trial, Verdict, train
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.training.model import draw_new_parameters, release_memory
from prunedlora.trial.assemble import build_method, build_trial, milestone_steps, num_steps
from prunedlora.trial.assets import AssetCache, Assets, share_of
from prunedlora.trial.candidates import (
    ADAPTER,
    make_candidate,
)
from prunedlora.trial.environment import environment
from prunedlora.trial.failures import (
    OUTSIDE,
    TooManyAttemptsError,
    begin_attempt,
    last_words,
    leave_words,
    rank_that_failed,
)
from prunedlora.trial.resume import load_checkpoint, save_checkpoint
from prunedlora.trial.trial_harness import load_harness

ON_ALL_ALIKE = (NonFiniteError, TooLittleMemoryError)
"""Found by all ranks at once, which stay in step."""
TERMINAL = {Verdict.CONTINUE: "completed", Verdict.STOP: "stopped", Verdict.PAUSE: "paused"}


@dataclass
class _Run:
    """What one run of a trial gathers on the way to its record."""

    key: str
    config: TrialConfig
    store: Store
    workers: Workers
    epoch: int
    attempt: int
    assets: Assets | None = None
    live: Trial | None = None
    served: ServedLayers | None = None
    share: AdaptedShare | None = None
    candidates: list[Candidate] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    rate: float | None = None

    def check(self) -> None:
        """Raises StaleWriterError when another driver or attempt has taken the trial over."""
        self.store.check_writer(self.key, self.epoch, self.attempt)

    def flush_log(self) -> None:
        if self.workers.rank == 0 and self.log:
            self.check()
            self.store.append_log(self.key, self.log)
            self.log = []


def execute_trial(
    config: TrialConfig,
    key: str,
    *,
    store: Store,
    assets: AssetCache,
    workers: Workers,
    epoch: int,
    max_attempts: int,
    report: Callable[[dict[str, Any]], Verdict],
    progress: Callable[[int, int], Verdict],
    keep_checkpoints: bool = False,
    checkpoint_every_steps: int | None = None,
) -> str:
    """Trains one configuration, from its last checkpoint if it has one, and leaves its record in the store.

    Args:
        epoch: number of the driver on whose behalf; a replaced driver's slot cannot write any more.
        report: called on rank 0 with every candidate; its verdict is obeyed.
        progress: called on rank 0 with (steps done, steps in all) after every step; PAUSE is obeyed.

    Returns:
        "completed", "stopped", "failed" (the reason is in the record) or "paused" (a checkpoint, no record).

    Raises:
        OutsideError, StoreError, PeerLostError: what is not the trial's doing leaves no record: the workers must be
            restarted, and the trial goes on from its last checkpoint.
        Exception: with several workers, and after a CUDA error that took the device, whatever failed the trial is
            raised again once it is on record: the ranks are out of step, or the device is gone, and the workers must be
            restarted. A loss that is not finite, or memory that does not suffice for a single example, is found by all
            ranks at once and is no such case.
    """
    attempt = workers.from_first(begin_attempt(store, key, epoch, max_attempts) if workers.rank == 0 else None)
    run = _Run(key, config, store, workers, epoch, attempt)
    try:
        if attempt > max_attempts:
            raise TooManyAttemptsError(f"the workers of this trial died {attempt - 1} times; {last_words(store, key)}")
        run.assets = assets.get(config)
        verdict = _train(run, run.assets, report, progress, checkpoint_every_steps)
    except StaleWriterError:
        raise
    except OUTSIDE as error:
        assets.clear_if_adapted()
        with suppress(StoreError):  # the store may be what is gone
            failed = rank_that_failed(store, key) if workers.rank == 0 and isinstance(error, PeerLostError) else None
            if failed is None:
                leave_words(store, key, workers.rank, _failure(run, error), outside=True)
            else:
                _write_record(run, "failed", failed)
                run.flush_log()
        raise
    except Exception as error:
        assets.clear_if_adapted()
        if workers.rank == 0:
            _write_record(run, "failed", error)
            run.flush_log()
        elif not isinstance(error, ON_ALL_ALIKE):
            leave_words(store, key, workers.rank, _failure(run, error), outside=False)
        if _is_out_of_step(error, workers):
            raise
        return "failed"
    finally:
        release_memory(workers.device)
    if workers.rank == 0:
        run.flush_log()
        if verdict is not Verdict.PAUSE:
            _write_record(run, TERMINAL[verdict], None)
            if not keep_checkpoints:
                store.delete_folder(store.trial_path(key, "checkpoints"))
    return TERMINAL[verdict]


def _train(
    run: _Run,
    assets: Assets,
    report: Callable[[dict[str, Any]], Verdict],
    progress: Callable[[int, int], Verdict],
    checkpoint_every_steps: int | None,
) -> Verdict:
    config, workers = run.config, run.workers
    harness = load_harness(config, workers.num_workers)  # first: what is missing on this node must not cost a training
    run.share = share_of(config, assets.skeleton)
    method = build_method(config, num_steps(config, len(assets.train)), assets.skeleton.reach.modules)
    model = method.attach(assets.base.model, ADAPTER)
    try:
        draw_new_parameters(model, assets.base, config.seed)
        run.live = live = build_trial(config, assets, model, method, workers)
        run.served = None if config.adapter is None else served_layers(model)
        load_checkpoint(run.store, run.key, live, run.candidates)
        if live.step or run.store.num_attempts(run.key) > 1:
            run.log.append({"resumed_at_step": live.step})

        def on_step(log: StepLog) -> Verdict:
            run.rate = log.learning_rate
            run.log.append({name: value for name, value in vars(log).items() if value is not None})
            return progress(live.step, live.num_steps) if workers.rank == 0 else Verdict.CONTINUE

        def on_milestone(truncated_rank: int | None = None) -> Verdict:
            halvings = live.fit.evaluation_halvings
            candidate = make_candidate(
                live, config, assets, run.store, run.key, workers, run.check, truncated_rank=truncated_rank
            )
            run.candidates.append(candidate)
            if live.fit.evaluation_halvings > halvings:
                run.log.append({"step": live.step, "fit": asdict(live.fit)})
            if harness is not None and live.step == live.num_steps:
                # The candidate is on record and its adapter in the store already, should the harness fail.
                further = harness.measure(model, config, live.dtype, workers)
                candidate = candidate.model_copy(update={"figures": candidate.figures | further})
                run.candidates[-1] = candidate
            run.flush_log()
            return Verdict(workers.from_first(report(candidate.model_dump(mode="json")) if workers.rank == 0 else None))

        def checkpoint() -> None:
            run.flush_log()  # first, so that the log has no hole where a killed trial goes on
            save_checkpoint(run.store, run.key, live, run.candidates, workers, run.check)

        verdict = train(
            live,
            workers,
            milestones=milestone_steps(config, live.num_steps),
            checkpoint_every_steps=checkpoint_every_steps,
            on_step=on_step,
            on_milestone=on_milestone,
            save_checkpoint=checkpoint,
        )
        if verdict is Verdict.CONTINUE:
            for rank in method.truncations():
                on_milestone(rank)
        return verdict
    finally:
        method.close()
        method.detach(model)


def _write_record(run: _Run, status: Any, error: Exception | None) -> None:
    live = run.live
    record = TrialRecord(
        key=run.key,
        label=run.store.read_label(run.key),
        config=run.config.model_dump(mode="json"),
        status=status,
        failure=None if error is None else _failure(run, error),
        attempts=run.store.num_attempts(run.key),
        candidates=tuple(run.candidates),
        environment=environment(run.workers, run.assets, run.share),
        train_seconds=live.train_seconds if live else 0.0,
        layer_widths=run.served.linear if run.served else None,
        embedding_widths=run.served.embeddings if run.served else None,
        fit=_recorded_fit(live, run.workers) if live else None,
    )
    run.store.write_record(record, run.epoch, run.attempt)


def _recorded_fit(live: Trial, workers: Workers) -> MemoryFit:
    examples, tokens = live.order.limits(workers.num_workers, live.fit.halvings)
    return MemoryFit(**asdict(live.fit), micro_batch_size=examples, micro_batch_tokens=tokens)


def _failure(run: _Run, error: Exception) -> Failure:
    return Failure(
        type=type(error).__name__,
        message=str(error),
        step=run.live.step if run.live else None,
        learning_rate=run.rate,
        traceback="".join(traceback.format_exception(error)),
    )


def _is_out_of_step(error: Exception, workers: Workers) -> bool:
    """Whether the workers must be restarted: some ranks may be elsewhere, or the device does not answer any more."""
    if workers.num_workers > 1 and not isinstance(error, ON_ALL_ALIKE):
        return True
    if workers.device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(workers.device)
    except RuntimeError:
        return True
    return False
