"""A trial at a milestone → a Candidate: evaluated, measured, exported as a plain PEFT adapter and reloaded to check."""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunedlora.adapters.export import WEIGHTS_NAME, export
from prunedlora.adapters.size import AdapterSize, measure, measure_full
from prunedlora.adapters.targets import resolve_head
from prunedlora.adapters.verify import Certificate, verify
from prunedlora.checksums import file_sha256
from prunedlora.config.identity import model_location
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, Cut, ExampleOutcomes, Figure
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import Outcomes, figures
from prunedlora.tasks.task import INPUTS, Features
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import autocast, evaluate
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.memory import TooLittleMemoryError, is_out_of_memory
from prunedlora.training.model import release_memory
from prunedlora.training.trial import Trial
from prunedlora.trial import worth
from prunedlora.trial.assets import Assets
from prunedlora.trial.evaluation_clock import EvaluationClock
from prunedlora.trial.failures import causes

ADAPTER = "default"
CHECKED_EXAMPLES = 4
CHECKED_TOKENS = 64
"""First tokens of each: of a language model logits at every token are compared, in float64 (0.26 GB a copy where the
vocabulary has 128,256), on a device that training has filled."""


def make_candidate(
    live: Trial,
    config: TrialConfig,
    assets: Assets,
    store: Store,
    key: str,
    workers: Workers,
    check_writer: Callable[[], None],
    *,
    cut: Cut | None = None,
    outcomes: Outcomes | None = None,
    earlier: Sequence[Candidate],
) -> Candidate:
    """The trial as it stands. Rank 0 stores its outcomes, example by example, and the adapter under `adapters/<step>`,
    unless there is none: every rank is 0, or the method is full fine-tuning. `cut` is on record for an adapter
    that was cut, and `outcomes` those of a screening that was of all validation examples, without answers: what they
    hold is not measured again. Of a metric that is made of generated answers, the loss is measured first where it
    decides whether there are any (worth.py), by what is on record and by `earlier`, the trial's candidates so far.

    Raises:
        NonFiniteError: the validation loss is NaN or infinite; before anything is stored.
        TooLittleMemoryError: a single example cannot be evaluated; nothing is left of what was stored.
        VerificationError: the exported adapter, reloaded by PEFT, is not the trained one or does not give its logits.
            One that does nothing yet is a candidate like another; its certificate says so.
        StaleWriterError: by `check_writer`, before anything is stored.
    """
    clock = EvaluationClock(live.evaluation_seconds)
    is_judged = worth.is_judged(
        config,
        is_end=live.step == live.num_steps,
        is_cut=cut is not None,
        is_original=live.step == 0 and cut is None,
    )
    generates = config.generate is not None and not is_judged
    if outcomes is None or generates:
        outcomes = _evaluated(live, config, assets, workers, clock, generate=generates)
    measured = figures(outcomes)
    if not all(math.isfinite(figure.value) for figure in measured.values()):
        raise NonFiniteError(f"validation loss is {measured['loss'].value} after step {live.step}")
    size = _size(live, config)
    path, file_bytes, sha256, certificate = None, 0, None, None
    if workers.rank == 0 and any(size.ranks.values()):
        path = f"adapters/{live.step:06d}" + ("" if cut is None else cut.name)
        with clock.part("export"), tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "adapter"
            export(live.model, ADAPTER, folder, model_location(config.model.name), config.model.revision)
            certificate = verified(live.model, live.dtype, folder, assets, workers, merged=False)
            file_bytes, sha256 = (folder / WEIGHTS_NAME).stat().st_size, file_sha256(folder / WEIGHTS_NAME)
            check_writer()
            store.upload_folder(folder, store.trial_path(key, path))
    rung = live.course.rung(live.step)
    candidate = Candidate(
        step=live.step,
        progress=live.progress,
        rung=None if rung is None else rung.number,
        branch_steps=None if rung is None else rung.branch_steps or None,
        cut=cut,
        figures=recorded(measured),
        ranks=size.ranks,
        adapter_params=size.adapter_params,
        adapter_bytes=size.adapter_bytes,
        head_params=size.head_params,
        file_bytes=file_bytes,
        file_sha256=sha256,
        max_rank=size.max_rank,
        served_slot=size.served_slot,
        served_slot_bytes=size.served_slot_bytes,
        adapter_path=path,
        train_seconds=live.train_seconds,
        tokens_seen=live.tokens_seen,
        examples_seen=live.step * live.order.batch_size,
        certificate=certificate_facts(certificate) if certificate else None,
    )
    if is_judged:
        with clock.part("loss"):
            found = worth.judged(candidate, outcomes, config, key, earlier, store) if workers.rank == 0 else None
            judgement = workers.from_first(found)
        if judgement is None:
            try:
                outcomes = _evaluated(live, config, assets, workers, clock, generate=True)
            except TooLittleMemoryError:
                if path is not None:  # no candidate will name it
                    check_writer()
                    store.delete_folder(store.trial_path(key, path))
                raise
            candidate = candidate.model_copy(update={"figures": recorded(figures(outcomes))})
        else:
            candidate = candidate.model_copy(update={"judged_by_loss": judgement})
    candidate = candidate.model_copy(update={"evaluation_seconds": clock.seconds})
    if workers.rank == 0:
        check_writer()
        store.write_outcomes(key, candidate.name, example_outcomes(outcomes))
    return candidate


def example_outcomes(outcomes: Outcomes) -> ExampleOutcomes:
    """The same as they are kept in a store."""
    return ExampleOutcomes(
        loss_sums=tuple(outcomes.loss_sums),
        num_targets=tuple(outcomes.num_targets),
        scores={metric: tuple(values) for metric, values in outcomes.scores.items()},
        true_classes=None if outcomes.true_classes is None else tuple(outcomes.true_classes),
        predicted_classes=None if outcomes.predicted_classes is None else tuple(outcomes.predicted_classes),
    )


def _evaluated(
    live: Trial, config: TrialConfig, assets: Assets, workers: Workers, clock: EvaluationClock, *, generate: bool
) -> Outcomes:
    with clock.part("answers" if generate else "loss"):
        return evaluate(
            live.model,
            assets.task,
            validation_examples(config, assets),
            batch_size=config.evaluation.batch_size,
            dtype=live.dtype,
            workers=workers,
            fit=live.fit,
            generate=generate,
        )


def verified(
    model: Any, dtype: torch.dtype, folder: Path, assets: Assets, workers: Workers, *, merged: bool
) -> Certificate:
    """The certificate of an exported adapter under autocast to `dtype`, on half as many examples each time that memory
    does not suffice. Raises as `verify`, and what says that it does not suffice for a single one."""
    num_examples = CHECKED_EXAMPLES
    while True:
        try:
            with autocast(workers.device, dtype):
                return verify(model, ADAPTER, folder, checked_batch(assets, workers, num_examples), merged=merged)
        except (RuntimeError, MemoryError) as error:
            if num_examples == 1 or not any(map(is_out_of_memory, causes(error))):
                raise
        release_memory(workers.device)  # out of the handler: the error holds what was made
        num_examples //= 2


def _size(live: Trial, config: TrialConfig) -> AdapterSize:
    if config.full is None:
        return measure(live.model, ADAPTER)
    return measure_full(live.model, resolve_head(live.model, config.head_modules))


def validation_examples(config: TrialConfig, assets: Assets) -> Sequence[Features]:
    """The validation examples that this configuration is evaluated on."""
    return assets.validation[: config.evaluation.max_examples]


def checked_batch(assets: Assets, workers: Workers, num_examples: int = CHECKED_EXAMPLES) -> dict[str, Tensor]:
    """A few validation examples on the device, or what they begin with, the inputs of a verification."""
    features = assets.validation[:num_examples]
    if assets.task.labels is None:  # a class is told at the end, a language model speaks at every token
        features = [replace(feature, input_ids=feature.input_ids[:CHECKED_TOKENS], targets=[]) for feature in features]
    batch = assets.task.collate(features)
    return {name: batch[name].to(workers.device) for name in INPUTS}


def certificate_facts(certificate: Certificate) -> dict[str, Any]:
    """A certificate as a record keeps it."""
    return asdict(certificate)


def recorded(values: dict[str, Any]) -> dict[str, Figure]:
    """An evaluation's figures as a record keeps them."""
    return {name: Figure(**vars(figure)) for name, figure in values.items()}
