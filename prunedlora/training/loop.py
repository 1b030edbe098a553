"""The training loop: one configuration from its first step, or from where it was, to its last. Top to bottom."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from prunedlora.adapters.full_float32 import fast_float32
from prunedlora.adapters.reach import check_gradients
from prunedlora.seeds import seed_dropout
from prunedlora.training.agreement import Agreement
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import autocast
from prunedlora.training.gradient_checkpointing import set_gradient_checkpointing
from prunedlora.training.memory import TooLittleMemoryError, is_out_of_memory
from prunedlora.training.model import release_memory
from prunedlora.training.state import TrialState, put_state, take_state
from prunedlora.training.trial import Trial


class Verdict(StrEnum):
    """The answer to "shall I go on?"."""

    CONTINUE = "continue"
    PAUSE = "pause"  # leave a checkpoint; the trial goes on in another run of the sweep
    STOP = "stop"  # this trial has been judged; what it has found so far is its result


class NonFiniteError(RuntimeError):
    """Loss or gradients are NaN or infinite; training on would only spread it. Raised on all workers alike."""


@dataclass(frozen=True)
class StepLog:
    """What one optimizer step leaves in the trial's log."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    """That went through the model in this step, over all workers."""
    positions: int
    """The same, padding included."""
    seconds: float = field(compare=False)
    """That it took, what was begun anew included."""
    ranks: Mapping[str, int] | None = None
    """Rank of every layer, after a pruning event only."""
    fit: Mapping[str, Any] | None = None
    """The fields of Fit, after a step only that was begun anew with less at once."""
    loss_scale: float | None = None
    """After a step only that changed it: what losses are multiplied by from then on."""
    rung: int | None = None
    """Number of the ladder's rung that the step belongs to; None without a ladder."""


@dataclass(frozen=True)
class RungLog:
    """What a removal at a rung's begin leaves in the trial's log, after the step's own line."""

    step: int
    """Optimizer steps done."""
    rung: int
    """Number of the rung that begins."""
    ranks: Mapping[str, int]
    """Rank of every layer."""


def train(
    trial: Trial,
    workers: Workers,
    *,
    checkpoint_every_steps: int | None,
    checkpoint_every_seconds: float | None = None,
    on_step: Callable[[StepLog], Verdict],
    on_rung: Callable[[RungLog], None],
    on_milestone: Callable[[], Verdict],
    save_checkpoint: Callable[[], None],
    looks: Collection[int] = (),
    on_look: Callable[[], Verdict] = lambda: Verdict.CONTINUE,
) -> Verdict:
    """Follows the trial's course to the last step unless told otherwise, and returns the verdict that ended it
    (CONTINUE at the end).

    `on_step` is asked on every worker, rank 0's answer counts. `on_milestone` runs on all workers (it evaluates)
    wherever the course has a candidate, before the first step too, and the step that the trial stands at when it comes
    here included, so that it may have made that one before; it gives all workers the same answer. So does `on_look`,
    which runs after the steps `looks` that have no candidate, and must leave the training as it is; of its answers STOP
    counts. `on_rung` hears of what is removed where a rung begins.

    A checkpoint is saved every `checkpoint_every_steps`; once `checkpoint_every_seconds` have passed since the last
    one, which each worker finds by its own clock, so that only what one of them does alone may follow from it; after
    milestones and the removal that follows; before the last one, whose evaluation then costs no training should it die;
    where a branch leaves the line; and on PAUSE. Within a branch there is none, on PAUSE neither: it begins again.

    Raises:
        NonFiniteError: names the step and the learning rate; where losses are scaled, of a loss, or of gradients and
            statistics that are not finite at scale 1 either.
        TooLittleMemoryError: not even a single example fits; on all workers alike.
        NoGradientError: after the first backward pass, names the adapted layers that the loss does not depend on.
        WorkersDifferError: workers have changed their adapters differently; before that step's gradients are summed,
            and before a milestone or a look.
    """
    agreement, course = Agreement(), trial.course
    trial.model.train()
    line: TrialState | None = None  # what a branch comes back to
    # Of step 0 nothing is saved yet, whether it comes from a checkpoint (which is then stored once) or not.
    pause_asked, saved_step, last_saved = False, trial.step or -1, time.monotonic()
    while True:
        # Where it stands: at a candidate, between two rungs, where a branch begins.
        verdict, is_mark = Verdict.CONTINUE, trial.step in course.candidates
        if is_mark:
            agreement.confirm(workers)
            if trial.step == trial.num_steps > max(saved_step, 0):
                save_checkpoint()
            verdict = on_milestone()
            if verdict is Verdict.STOP or trial.step == trial.num_steps:
                return Verdict.STOP if verdict is Verdict.STOP else Verdict.CONTINUE
            if line is not None:
                put_state(trial, line)
                line = None
        elif trial.step in looks:
            agreement.confirm(workers)
            if on_look() is Verdict.STOP:
                return Verdict.STOP
        if (rung := course.rung_from(trial.step)) is not None:
            started = time.perf_counter()
            event = trial.method.begin_rung(trial.step, trial.progress, trial.optimizer)
            if event is not None:
                agreement.add(event)
                on_rung(RungLog(trial.step, rung.number, event.ranks))
            if course.renews_optimizer:
                trial.optimizer.state.clear()
            trial.train_seconds += time.perf_counter() - started
        if course.branch_from(trial.step) is not None:
            line, is_mark = take_state(trial), True
        if trial.step > saved_step and (
            is_mark
            or (
                trial.step > 0
                and line is None
                and _is_due(trial.step, checkpoint_every_steps, last_saved, checkpoint_every_seconds)
            )
        ):
            save_checkpoint()
            saved_step, last_saved = trial.step, time.monotonic()
        if verdict is Verdict.PAUSE:
            return verdict

        # One optimizer step.
        started = time.perf_counter()
        factor = course.rate(trial.step)
        for group, peak in zip(trial.optimizer.param_groups, trial.peak_rates, strict=False):
            group["lr"] = peak * factor
        trial.optimizer.param_groups[0]["lr"] *= trial.method.rate_factor

        before, scale_before = replace(trial.fit), _scale(trial)
        parameters = [p for group in trial.optimizer.param_groups for p in group["params"]]
        rate = trial.optimizer.param_groups[0]["lr"]
        while True:
            loss_total, num_targets_total, tokens, positions, pause = _accumulate(
                trial, workers, agreement, pause_asked
            )
            if trial.step == 0:
                check_gradients(trial.model)
            loss = loss_total / num_targets_total if num_targets_total else math.nan
            if not math.isfinite(loss):
                raise NonFiniteError(f"loss is {loss} at step {trial.step} (learning rate {rate:.3g})")
            if pause:  # before the step counts: the checkpoint resumes at exactly this step, or where its branch began
                trial.optimizer.zero_grad(set_to_none=True)
                if line is None:
                    save_checkpoint()
                return Verdict.PAUSE
            total_norm, norm, problem = _reduce(trial, workers, parameters, num_targets_total)
            if problem is None:
                break
            if trial.loss_scale is None or not trial.loss_scale.halve():
                raise NonFiniteError(f"{problem} at step {trial.step} (learning rate {rate:.3g})")
            _forget(trial)
        trial.method.observe(num_targets_total)
        if trial.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, trial.max_grad_norm, total_norm)
        trial.optimizer.step()
        trial.step += 1
        if trial.loss_scale is not None:
            trial.loss_scale.count_step()
        event = trial.method.step(trial.step, trial.progress, trial.optimizer)
        if event is not None:
            agreement.add(event)
        trial.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        trial.tokens_seen += int(tokens)
        trial.positions_seen += int(positions)
        trial.train_seconds += seconds

        ranks = event.ranks if event else None
        fit = None if trial.fit == before else asdict(trial.fit)
        scale = None if _scale(trial) == scale_before else _scale(trial)
        rung = course.rung(trial.step)
        number = None if rung is None else rung.number
        counts = int(tokens), int(positions), seconds
        verdict = on_step(StepLog(trial.step, loss, rate, norm, *counts, ranks, fit, scale, number))
        pause_asked = verdict is Verdict.PAUSE


def _scale(trial: Trial) -> float:
    return 1.0 if trial.loss_scale is None else trial.loss_scale.scale


def _forget(trial: Trial) -> None:
    """Takes back what the passes of a step have left: it begins anew."""
    trial.optimizer.zero_grad(set_to_none=True)
    trial.method.discard()


def _reduce(
    trial: Trial, workers: Workers, parameters: Sequence[nn.Parameter], num_targets: float
) -> tuple[Tensor, float, str | None]:
    """Makes of this worker's gradients those of the mean loss over all workers, and sums the statistics: the gradients'
    norm, as a tensor and as a number, and what of all this is not finite. Scaled losses leave no trace in any of it."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    statistics = trial.method.statistics()
    workers.sum_([*gradients, *statistics])
    if trial.loss_scale is not None:  # by itself: the product of both may be too large for the type
        torch._foreach_div_(gradients, trial.loss_scale.scale)
    torch._foreach_div_(gradients, num_targets)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    trial.method.penalise()
    total_norm = nn.utils.get_total_norm(gradients)
    norm = float(total_norm)
    if not math.isfinite(norm):
        return total_norm, norm, f"gradient norm is {norm}"
    if trial.loss_scale is not None:
        trial.method.unscale(trial.loss_scale.scale)
        largest = _largest(statistics)  # a square overflows before the gradient does
        if not math.isfinite(largest):
            return total_norm, norm, f"the largest of the method's statistics is {largest}"
    return total_norm, norm, None


def _largest(tensors: Sequence[Tensor]) -> float:
    """The largest absolute value; NaN where there is one."""
    return float(nn.utils.get_total_norm([tensor for tensor in tensors if tensor.numel()], norm_type=math.inf))


def _accumulate(
    trial: Trial, workers: Workers, agreement: Agreement, pause_asked: bool
) -> tuple[float, float, float, float, float]:
    """Leaves in the adapter this worker's gradients of a step, and in the method its statistics. Over all workers:
    loss sum, targets, tokens, tokens with padding, whether rank 0 was asked to pause.

    Where memory does not suffice for a worker, all of them begin the step anew with less at once.
    """
    device = workers.device
    while True:
        seed_dropout(trial.seed, trial.course.position(trial.step), workers.rank)
        sums, lacking = _passes(trial, workers)
        # Loss sum, targets, tokens, with padding; pause; whether memory lacked for several examples, for one; what the
        # workers have decided so far: reduced before the gradients, whose shapes differ where workers differ.
        flags = [float(pause_asked and workers.rank == 0), lacking.num_examples > 1, lacking.num_examples == 1]
        told = torch.tensor(flags, dtype=torch.float64, device=device)
        counts = torch.cat([sums, told, agreement.numbers(device)])
        workers.sum_([counts])
        loss, num_targets, tokens, positions, pause, num_halving, num_single, *decided = counts.tolist()
        agreement.check(decided, workers.num_workers)
        if not num_halving and not num_single:
            return loss, num_targets, tokens, positions, pause
        _forget(trial)
        release_memory(device)
        if not num_single:
            trial.fit.halvings += 1
        elif trial.may_checkpoint and not trial.fit.gradient_checkpointing:
            set_gradient_checkpointing(trial.model, True)
            trial.fit.gradient_checkpointing = True
        else:
            raise TooLittleMemoryError(_nothing_left(trial, workers.gather(lacking)))


@dataclass(frozen=True)
class _Lacking:
    """The pass for which memory did not suffice; of 0 examples: there was none."""

    num_examples: int = 0
    num_tokens: int = 0
    """Of the longest of them."""
    reason: str = ""


def _passes(trial: Trial, workers: Workers) -> tuple[Tensor, _Lacking]:
    """This worker's forward and backward passes of a step: loss sum, targets, tokens, and tokens with padding, (4,)
    float64. Zeros where memory did not suffice for one of them; gradients and statistics are then of no use."""
    device, features = workers.device, []
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    halvings, position = trial.fit.halvings, trial.course.position(trial.step)
    try:
        for features in trial.order.micro_batches(position, workers.rank, workers.num_workers, halvings=halvings):
            if not features:  # another worker's last pass; no pass waits for those of the others
                continue
            batch = {name: tensor.to(device) for name, tensor in trial.task.collate(features).items()}
            with fast_float32(device.type == "cuda" and trial.dtype == torch.float32):
                with autocast(device, trial.dtype):
                    loss_sum, num_targets = trial.task.loss(trial.model, batch)
                (loss_sum if trial.loss_scale is None else loss_sum * trial.loss_scale.scale).backward()
            sums[0] += loss_sum.detach()
            sums[1] += num_targets
            sums[2] += batch["attention_mask"].sum()
            sums[3] += batch["attention_mask"].numel()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or not features:  # before the first pass, or after all: none can be halved
            raise
        reason = str(error)
    else:
        return sums, _Lacking()
    # Out of the handler: the error holds what the pass had made.
    return torch.zeros_like(sums), _Lacking(len(features), max(len(f.input_ids) for f in features), reason)


def _nothing_left(trial: Trial, lacking: Sequence[_Lacking]) -> str:
    """What is said when a single example does not fit on some worker."""
    rank, worst = next((rank, each) for rank, each in enumerate(lacking) if each.num_examples == 1)
    if trial.fit.gradient_checkpointing:
        tried = "with gradient checkpointing"
        remedy = "a model.quantization"
    else:
        tried = "without gradient checkpointing, which model.gradient_checkpointing or the model does not allow"
        remedy = "model.gradient_checkpointing: true"
    return (
        f"memory does not suffice for a single example of {worst.num_tokens} tokens {tried} (step {trial.step}, worker "
        f"{rank}, batch of {trial.order.batch_size} in passes halved {trial.fit.halvings} times); set a smaller "
        f"data.max_length or adapter.initial_rank, or {remedy}, or take a device with more memory: {worst.reason}"
    )


def _is_due(step: int, every_steps: int | None, last_saved: float, every_seconds: float | None) -> bool:
    """Whether it is time for a checkpoint; `last_saved`: when the last one was taken, by time.monotonic()."""
    if every_steps is not None and step % every_steps == 0:
        return True
    return every_seconds is not None and time.monotonic() - last_saved >= every_seconds
