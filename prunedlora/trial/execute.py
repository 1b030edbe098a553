"""One configuration from its assets to its record: what a slot does with each piece of work, jobs/train.py with one.

All workers of a slot call these functions alike; rank 0 alone writes to the store.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from prunedlora.adapters.size import ServedLayers, served_layers
from prunedlora.config.trial import TrialConfig
from prunedlora.results.analysis.evaluation_time import share_words
from prunedlora.results.record import Candidate, Cut, Failure, MemoryFit, ScreenedCut, TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.training.distributed import PeerLostError, Workers
from prunedlora.training.harness import HarnessError
from prunedlora.training.loop import NonFiniteError, RungLog, StepLog, Verdict, train
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.training.model import release_memory
from prunedlora.training.trial import Trial
from prunedlora.trial.assemble import build_method, build_trial, num_steps
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.begin import Loaded, begin, load
from prunedlora.trial.candidates import ADAPTER, make_candidate
from prunedlora.trial.checkpoint_writer import CheckpointWriter
from prunedlora.trial.cutter import Cutter, PausedAmongCutsError
from prunedlora.trial.environment import environment
from prunedlora.trial.evaluation_clock import EvaluationClock
from prunedlora.trial.failures import OWN, REPLACED, LinAlgError, failure_of, node_error, row_of
from prunedlora.trial.last_words import (
    FAILED,
    HARNESS,
    INTERRUPTED,
    NOT_BEGUN,
    forget_words,
    leave_words,
    rank_that_failed,
    words_left,
)
from prunedlora.trial.looking import Looker, Looking
from prunedlora.trial.outside_error import OutsideError
from prunedlora.trial.resume import Reached, load_checkpoint, reached, snapshot
from prunedlora.trial.start import begin_heads

LOG_SECONDS, FAR_LOG_SECONDS = 5.0, 60.0
"""Between two times that the log is written while nothing else has it written: to a local store, and to one that has to
write it anew each time."""
ON_ALL_ALIKE = (HarnessError, NonFiniteError, TooLittleMemoryError, LinAlgError)
"""Found by all ranks at once, which stay in step; statistics are summed before they are factorised, and rank 0 tells
what the harness gave."""
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
    loaded: Loaded | None
    harness_failure: Failure | None
    """Of an attempt before: the harness is not asked again."""
    looking: Looking | None
    live: Trial | None = None
    began_at: int | None = None
    """Steps done before this attempt; None: it does not train yet."""
    served: ServedLayers | None = None
    candidates: list[Candidate] = field(default_factory=list)
    screened_cuts: list[ScreenedCut] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    logged_at: float = field(default_factory=time.monotonic)
    rate: float | None = None

    def check(self) -> None:
        """Raises StaleWriterError when another driver or attempt has taken the trial over."""
        self.store.check_writer(self.key, self.epoch, self.attempt)

    def flush_log(self) -> None:
        if self.workers.rank == 0 and self.log:
            self.check()
            self.store.append_log(self.key, self.log)
            self.log.clear()  # the same list: who has it goes on adding to it
            self.logged_at = time.monotonic()

    def keep_log_fresh(self) -> None:
        """So that curves can be seen while it trains."""
        most = LOG_SECONDS if self.store.storage.is_local else FAR_LOG_SECONDS
        if time.monotonic() > self.logged_at + most:
            self.flush_log()

    def failure(self, error: Exception) -> Failure:
        step = self.live.step if self.live else None
        return failure_of(error, loading=False, step=step, learning_rate=self.rate)

    def leave_words(self, failure: Failure, about: str) -> None:
        leave_words(self.store, self.key, (self.epoch, self.attempt), self.workers.rank, failure, about)


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
    progress: Callable[[int, int, float], Verdict],
    keep_checkpoints: bool = False,
    checkpoint_every_steps: int | None = None,
    checkpoint_every_seconds: float | None = None,
    checkpointed: Callable[[], None] = lambda: None,
    evaluating: Callable[[str], None] = lambda _: None,
    choosing: Callable[[str], Verdict] = lambda _: Verdict.CONTINUE,
    looking: Looking | None = None,
) -> str:
    """Trains one configuration, from its last checkpoint if it has one, and leaves its record in the store.

    Args:
        epoch: number of the driver on whose behalf; a replaced driver's slot cannot write any more.
        max_attempts: starts under this driver without a new checkpoint, after which the trial fails.
        report: called on rank 0 with every candidate; its verdict is obeyed.
        progress: called on rank 0 with (steps done, steps in all, tokens per second of training) after every step;
            PAUSE is obeyed.
        checkpointed: called on rank 0 after a new checkpoint is in the store, in the training's thread.
        evaluating: called on rank 0 with a candidate's name before it is evaluated; cuts that are only screened are not
            told.
        choosing: called with what is done while cuts are chosen, where there is one worker; PAUSE is obeyed.
        looking: how the trial is looked at on the way, which may end it; None: it is not.

    Returns:
        "completed", "stopped", "failed" (the reason is in the record) or "paused" (a checkpoint, no record).

    Raises:
        OutsideError, StoreError, PeerLostError, WorkersDifferError: what is not the trial's doing (failures.py) leaves
            no record: the workers must be restarted, and the trial goes on from its last checkpoint. What a node
            cannot load (NodeError) is no attempt of the trial either.
        StaleWriterError: another driver or attempt has taken over.
        Exception: with several workers, and after a CUDA error that took the device, whatever failed the trial is
            raised again once it is on record: the ranks are out of step, or the device is gone, and the workers must be
            restarted. A loss that is not finite, or memory that does not suffice for a single example, is found by all
            ranks at once and is no such case.
    """
    try:
        loaded = load(config, key, assets, workers)
        problem, ready = (loaded, None) if isinstance(loaded, Failure) else (None, loaded)
        begun = workers.from_first(begin(store, key, epoch, max_attempts, problem) if workers.rank == 0 else None)
        run = _Run(key, config, store, workers, epoch, begun.attempt, ready, begun.harness_failure, looking)
        failure = begun.failure
        if failure is None and config.evaluation.chosen_by_harness:
            failure = begun.harness_failure  # no further candidate would have a quality
        if ready is None or failure is not None:
            if workers.rank == 0:
                _write_record(run, "failed", failure)
            return "failed"
        writer = CheckpointWriter(store, key, (epoch, begun.attempt), run.check, checkpointed)
        try:
            told = (report, progress, evaluating, choosing)
            verdict = _train(run, ready, writer, *told, checkpoint_every_steps, checkpoint_every_seconds)
            may_go_on = verdict is Verdict.STOP and looking is not None and looking.keeps_checkpoint
            if verdict is Verdict.PAUSE or may_go_on:
                writer.wait()  # it is what a pause is for
        except Exception as error:
            if (beside := writer.end()) is not None:
                error.add_note(f"Its checkpoint was not stored either: {type(beside).__name__}: {beside}")
            assets.clear_if_adapted()
            _end_early(run, error)
            return "failed"
        finally:
            unsaved = writer.end()
        if workers.rank == 0:
            if unsaved is not None:  # nobody needs it any more
                run.log.append({"checkpoint_not_stored": f"{type(unsaved).__name__}: {unsaved}"})
            if verdict is not Verdict.PAUSE:  # what is in the log since its checkpoint is done again
                if run.live is not None:
                    run.log.append(_time_line(run.live))
                run.flush_log()
                _write_record(run, TERMINAL[verdict], None)
                if not keep_checkpoints and not may_go_on:
                    store.delete_folder(store.trial_path(key, "checkpoints"))
        return TERMINAL[verdict]
    finally:
        release_memory(workers.device)


def _train(
    run: _Run,
    loaded: Loaded,
    writer: CheckpointWriter,
    report: Callable[[dict[str, Any]], Verdict],
    progress: Callable[[int, int, float], Verdict],
    evaluating: Callable[[str], None],
    choosing: Callable[[str], Verdict],
    checkpoint_every_steps: int | None,
    checkpoint_every_seconds: float | None,
) -> Verdict:
    config, workers, assets = run.config, run.workers, loaded.assets
    method = build_method(config, num_steps(config, len(assets.train)), assets.skeleton.reach.modules)
    model = method.attach(assets.base.model, ADAPTER)
    try:
        begin_heads(config, model, assets.base)
        run.live = live = build_trial(config, assets, model, method, workers)
        run.served = None if config.adapter is None else served_layers(model)
        cutter = Cutter.of(config, live, assets, workers)
        looker = None
        if run.looking is not None:
            given = (run.looking, config, live, assets, workers, run.store, run.key, run.check, run.log.append)
            looker = Looker(*given)
        load_checkpoint(run.store, run.key, live, run.candidates, run.screened_cuts)
        run.began_at = live.step
        if live.step or run.store.num_attempts(run.key) > 1:
            run.log.append({"resumed_at_step": live.step})

        def on_step(log: StepLog) -> Verdict:
            run.rate = log.learning_rate
            run.log.append({name: value for name, value in vars(log).items() if value is not None})
            run.keep_log_fresh()
            writer.look()
            if workers.rank > 0:
                return Verdict.CONTINUE
            return progress(live.step, live.num_steps, live.tokens_seen / live.train_seconds)

        def on_rung(log: RungLog) -> None:
            run.log.append(vars(log))

        def add_candidate(cut: Cut | None = None, outcomes: Outcomes | None = None) -> Verdict:
            if workers.rank == 0:
                evaluating(f"{live.step}{'' if cut is None else cut.name}")
            halvings = live.fit.evaluation_halvings
            given = (live, config, assets, run.store, run.key, workers, run.check)
            candidate = make_candidate(*given, cut=cut, outcomes=outcomes, earlier=run.candidates)
            run.candidates.append(candidate)
            if live.fit.evaluation_halvings > halvings:
                run.log.append({"step": live.step, "fit": asdict(live.fit)})
            # Of cuts only those that are what a method comes to, unless they are chosen by it.
            is_last = live.step == live.num_steps and (cut is None or config.svd is not None)
            if loaded.harness is not None and (is_last or config.evaluation.chosen_by_harness):
                # The candidate is on record and its adapter in the store already, should the harness fail.
                clock = EvaluationClock(live.evaluation_seconds)
                with clock.part("harness"):
                    candidate = _with_harness(run, loaded, model, candidate)
                seconds = (candidate.evaluation_seconds or 0.0) + clock.seconds
                candidate = candidate.model_copy(update={"evaluation_seconds": seconds})
                run.candidates[-1] = candidate
            run.log.append(_candidate_line(candidate))
            return Verdict(workers.from_first(report(candidate.model_dump(mode="json")) if workers.rank == 0 else None))

        def look(candidate: str | None = None) -> Verdict:
            if looker is None:
                return Verdict.CONTINUE
            verdict = looker.look(candidate)
            # Within a branch there are no checkpoints: from where it left the line it is trained again.
            if verdict is Verdict.STOP and looker.looking.keeps_checkpoint and not live.course.is_in_branch(live.step):
                checkpoint()
            return verdict

        def on_milestone() -> Verdict:
            # A training that is gone on with may stand at one that it has made before.
            known = {(candidate.step, candidate.cut) for candidate in run.candidates}
            verdict = Verdict.CONTINUE if (live.step, None) in known else add_candidate()
            if cutter is not None and cutter.are_due and verdict is not Verdict.STOP:
                verdict = cut(cutter, verdict)
            # By now its cuts are there too: they cost little, and count as reached.
            return verdict if verdict is Verdict.STOP or look(str(live.step)) is Verdict.CONTINUE else Verdict.STOP

        def cut(cutter: Cutter, verdict: Verdict) -> Verdict:
            # Within a branch there are no checkpoints; the last step is one that nothing comes back from.
            is_kept = live.step == live.num_steps or not live.course.is_in_branch(live.step)
            is_written = is_kept and workers.rank == 0
            trained = snapshot(live, run.candidates, run.screened_cuts) if is_written else None

            def save() -> None:
                run.flush_log()
                if trained is not None:
                    writer.save(trained.with_found(run.candidates, run.screened_cuts, live.evaluation_seconds))

            stored = partial(run.store.read_outcomes, run.key)
            found = (run.candidates, run.screened_cuts, stored)
            told = (add_candidate, save, run.log.append)
            return cutter.make(*found, *told, verdict=verdict, can_pause=is_kept, choosing=choosing)

        def checkpoint() -> None:
            run.flush_log()  # first, so that the log has no hole where a killed trial goes on
            if workers.rank == 0:
                writer.save(snapshot(live, run.candidates, run.screened_cuts))

        verdict = train(
            live,
            workers,
            checkpoint_every_steps=checkpoint_every_steps,
            checkpoint_every_seconds=checkpoint_every_seconds,
            on_step=on_step,
            on_rung=on_rung,
            on_milestone=on_milestone,
            save_checkpoint=checkpoint,
            looks=() if looker is None else looker.steps,
            on_look=look,
        )
        return verdict
    except PausedAmongCutsError:
        return Verdict.PAUSE
    finally:
        method.close()
        method.detach(model)


def _with_harness(run: _Run, loaded: Loaded, model: nn.Module, candidate: Candidate) -> Candidate:
    """The candidate with what lm-evaluation-harness measures, or with why there is nothing: the training is over, and
    its result is none the worse. Where the harness gives the quality, a cut without it is none the worse for the
    training; a candidate as it was trained stays on record with the reason, and its trial ends with it: it goes on
    from its checkpoint when it is tried again. A quality that is not finite is the trial's own fault, as such a loss
    is. Other figures that are not finite are left out, and the candidate says so.

    Raises what interrupts a trial: NodeError where the node is at fault, at which the harness is asked once more;
    OutsideError where it has left the workers out of step: the next attempt hears of it and does without, or ends at
    once where the harness gives the quality.
    """
    assert loaded.harness is not None
    if run.harness_failure is not None:
        return candidate.model_copy(update={"harness_failure": run.harness_failure})
    try:
        further = loaded.harness.measure(model, run.config, loaded.assets.base.dtype, run.workers)
    except OWN:
        raise
    except Exception as error:  # tasks run code of their own: any error is possible
        failure = run.failure(error)
        if not row_of(error, loading=False).consequence.has_record:
            run.leave_words(failure, HARNESS)
            raise node_error(error, "lm-evaluation-harness failed") from error
        if not isinstance(error, ON_ALL_ALIKE) and _is_out_of_step(error, run.workers):
            run.leave_words(failure, HARNESS)
            raise OutsideError(f"lm-evaluation-harness failed: {failure.type}: {failure.message}") from error
        candidate = candidate.model_copy(update={"harness_failure": failure})
        if run.config.evaluation.chosen_by_harness and candidate.cut is None:
            run.candidates[-1] = candidate
            raise
        return candidate
    if further.scores is not None:
        run.check()
        run.store.add_scores(run.key, candidate.name, run.config.evaluation.figure, **vars(further.scores))
    left_out = run.failure(HarnessError(further.left_out)) if further.left_out else None
    return candidate.model_copy(update={"figures": candidate.figures | further.figures, "harness_failure": left_out})


def _end_early(run: _Run, error: Exception) -> None:
    """Puts on record what ended a trial early, or leaves words where that is not the trial's to answer for; raises
    where the workers must be restarted."""
    consequence, is_first = row_of(error, loading=False).consequence, run.workers.rank == 0
    if consequence == REPLACED:
        raise error
    if not consequence.has_record:
        with suppress(StoreError):  # the store may be what is gone
            alone = None
            if is_first and isinstance(error, PeerLostError):
                alone = rank_that_failed(words_left(run.store, run.key))
            if alone is None:
                run.leave_words(run.failure(error), NOT_BEGUN if _is_not_begun(run, error) else INTERRUPTED)
            else:
                _write_record(run, "failed", alone)
                run.flush_log()
        if isinstance(error, OWN):
            raise error
        raise node_error(error, f"trial {run.key} was interrupted") from error
    if is_first:
        _write_record(run, "failed", run.failure(error))
        run.flush_log()
    elif not isinstance(error, ON_ALL_ALIKE):
        run.leave_words(run.failure(error), FAILED)
    if _is_out_of_step(error, run.workers):
        raise error


def _is_not_begun(run: _Run, error: Exception) -> bool:
    """Whether this node has ended an attempt that had not done a step. A lost worker may have died of the trial."""
    return (
        not isinstance(error, OWN)
        and row_of(error, loading=False).fault == "node"
        and (run.live is None or run.began_at in (None, run.live.step))
    )


def _write_record(run: _Run, status: Any, failure: Failure | None) -> None:
    live, loaded = run.live, run.loaded
    if live is None or run.began_at is None:  # it ends before it trains: what attempts before have found is its result
        found = reached(run.store, run.key)
    else:
        spent = live.train_seconds, sum(live.evaluation_seconds.values()), live.tokens_seen, live.positions_seen
        found = Reached(run.candidates, run.screened_cuts, *spent)
    if found.problem is not None and failure is not None:
        failure = failure.model_copy(update={"message": f"{failure.message}; {found.problem}"})
    record = TrialRecord(
        key=run.key,
        label=run.store.read_label(run.key),
        config=run.config.model_dump(mode="json"),
        status=status,
        failure=failure,
        attempts=run.store.num_attempts(run.key),
        candidates=tuple(found.candidates),
        screened_cuts=tuple(found.screened_cuts),
        looks=() if run.looking is None else tuple(stored.look for stored in run.store.looks(run.key)),
        environment=environment(run.workers, loaded.assets if loaded else None, loaded.share if loaded else None),
        train_seconds=found.train_seconds,
        evaluation_seconds=found.evaluation_seconds,
        tokens_per_second=found.tokens_seen / found.train_seconds if found.tokens_seen else None,
        padding_share=1 - found.tokens_seen / found.positions_seen if found.tokens_seen else None,
        layer_widths=run.served.linear if run.served else None,
        embedding_widths=run.served.embeddings if run.served else None,
        fit=_recorded_fit(live, run.workers) if live else None,
    )
    run.store.write_record(record, run.epoch, run.attempt)
    forget_words(run.store, run.key)


def _candidate_line(candidate: Candidate) -> dict[str, Any]:
    """What the log says of a candidate when it is made; the record says it all."""
    sizes = {"adapter_params": candidate.adapter_params, "max_rank": candidate.max_rank}
    figures = {name: figure.value for name, figure in candidate.figures.items()}
    return {"step": candidate.step, "candidate": candidate.name} | sizes | {"figures": figures}


def _time_line(live: Trial) -> dict[str, Any]:
    """The last line of the log of a trial that has ended: where its time went."""
    return {
        "train_seconds": live.train_seconds,
        "evaluation_seconds": live.evaluation_seconds,
        "time": share_words(live.train_seconds, sum(live.evaluation_seconds.values())),
    }


def _recorded_fit(live: Trial, workers: Workers) -> MemoryFit:
    examples, tokens = live.order.limits(workers.num_workers, live.fit.halvings)
    return MemoryFit(**asdict(live.fit), micro_batch_size=examples, micro_batch_tokens=tokens)


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
