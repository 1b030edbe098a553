"""Second moments of a trained adapter's h and u, the metric of its loss (methods.md 1.8), from examples that are passed
forward and backward without an update."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil

import torch
from torch import nn

from prunedlora.adapters.full_float32 import fast_float32
from prunedlora.adapters.layers import AdaptedLayer
from prunedlora.adapters.module_modes import in_evaluation_mode
from prunedlora.pruning.principal import SecondMoments
from prunedlora.pruning.statistics import ActivationStatistic, OutputGradientStatistic
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import autocast
from prunedlora.training.gradient_checkpointing import set_gradient_checkpointing
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.loss_scale import LossScale
from prunedlora.training.memory import Fit, TooLittleMemoryError, is_out_of_memory
from prunedlora.training.model import release_memory
from prunedlora.training.trial import Trial


@dataclass
class _Passes:
    """What a calibration finds for itself: the training's own is left as it is."""

    fit: Fit
    loss_scale: LossScale | None
    lacking: str | None = None
    """What was said where memory did not suffice for a pass on this worker."""
    num_lacking: int = field(default=0)
    """Examples of that pass."""


def second_moments(
    trial: Trial,
    layers: Sequence[AdaptedLayer],
    workers: Workers,
    num_examples: int,
    before_pass: Callable[[int, int], None] = lambda *_: None,
) -> SecondMoments:
    """Of h over tokens and of u of the summed loss, (r, r) per layer, in at least float32; equal on all workers.

    They are of the training examples that come next, `num_examples` or all there are, where those are fewer, rounded up
    to whole batches: what is seen twice adds nothing. Nothing drops out, whatever does in training, so that how many
    workers share the examples changes rounding alone. Parameters, optimizer and what the method remembers are left
    alone, and so is the training's `fit`; gradients are gone afterwards. `before_pass` is told of every pass of this
    worker how many of its batches are through and how many there are, and may end it all by an error of its own.

    Raises:
        TooLittleMemoryError: not even a single example fits; on all workers alike.
        NonFiniteError: moments that are not finite, at loss scale 1 either.
    """
    statistics = (ActivationStatistic(layers), OutputGradientStatistic(layers))
    passes = _Passes(replace(trial.fit), None if trial.loss_scale is None else replace(trial.loss_scale))
    num_batches = ceil(min(num_examples, len(trial.order.features)) / trial.order.batch_size)
    try:
        while True:
            with _without_dropout(trial.model):
                _pass_all(trial, workers, num_batches, passes, before_pass)
            if not _has_fitted(trial, workers, passes):
                _discard(trial, statistics)
                continue
            raw = [tensor for statistic in statistics for tensor in statistic.statistics()]
            workers.sum_(raw)
            if passes.loss_scale is not None:
                for statistic in statistics:
                    statistic.unscale(passes.loss_scale.scale)
            if all(bool(tensor.isfinite().all()) for tensor in raw):
                of_h, of_u = (statistic.collect() for statistic in statistics)
                return of_h, of_u
            if passes.loss_scale is None or not passes.loss_scale.halve():
                raise NonFiniteError(f"second moments for cuts in basis 'whitened' are not finite at step {trial.step}")
            _discard(trial, statistics)
    finally:
        _discard(trial, statistics)
        for statistic in statistics:
            statistic.close()
        if passes.fit.gradient_checkpointing != trial.fit.gradient_checkpointing:
            set_gradient_checkpointing(trial.model, trial.fit.gradient_checkpointing)


def _pass_all(
    trial: Trial, workers: Workers, num_batches: int, passes: _Passes, before_pass: Callable[[int, int], None]
) -> None:
    """This worker's passes, unless memory does not suffice for one of them: then `passes` says so."""
    passes.lacking, features = None, []
    try:
        for number in range(num_batches):
            for features in trial.order.micro_batches(
                trial.course.position(trial.step) + number,
                workers.rank,
                workers.num_workers,
                halvings=passes.fit.halvings,
            ):
                if not features:  # another worker's last pass
                    continue
                before_pass(number, num_batches)
                batch = {name: tensor.to(workers.device) for name, tensor in trial.task.collate(features).items()}
                with fast_float32(workers.device.type == "cuda" and trial.dtype == torch.float32):
                    with autocast(workers.device, trial.dtype):
                        loss_sum, _ = trial.task.loss(trial.model, batch)
                    (loss_sum if passes.loss_scale is None else loss_sum * passes.loss_scale.scale).backward()
                trial.optimizer.zero_grad(set_to_none=True)  # the head's: they would only add up
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or not features:
            raise
        passes.lacking, passes.num_lacking = str(error), len(features)


def _has_fitted(trial: Trial, workers: Workers, passes: _Passes) -> bool:
    """Whether every worker is through; else less goes through at once from now on, on all of them."""
    told = workers.gather((passes.lacking, passes.num_lacking))
    lacking = [(reason, num) for reason, num in told if reason is not None]
    if not lacking:
        return True
    release_memory(workers.device)
    if all(num > 1 for _, num in lacking):
        passes.fit.halvings += 1
    elif trial.may_checkpoint and not passes.fit.gradient_checkpointing:
        set_gradient_checkpointing(trial.model, True)
        passes.fit.gradient_checkpointing = True
    else:
        raise TooLittleMemoryError(
            f"memory does not suffice for a single example of those that cuts in basis 'whitened' are calibrated on "
            f"(step {trial.step}); take basis svd alone, or a smaller data.max_length: {lacking[0][0]}"
        )
    return False


def _discard(trial: Trial, statistics: Sequence[ActivationStatistic | OutputGradientStatistic]) -> None:
    for statistic in statistics:
        statistic.resize()
    trial.method.discard()  # its hooks have seen the passes too
    trial.optimizer.zero_grad(set_to_none=True)


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode but those that compute activations twice, which do so in training mode only."""
    with in_evaluation_mode(model):
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True
        yield
