"""lm-evaluation-harness on an adapter of a store, loaded by PEFT alone, as anyone would."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from prunedlora.adapters.attach import load
from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.delivery.stored_adapter import fetch_adapter
from prunedlora.registry import lookup
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.harness_document import HarnessRun
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.harness import HarnessError, load_tasks
from prunedlora.trial.base_cache import load_base_of, model_facts
from prunedlora.trial.candidates import ADAPTER
from prunedlora.trial.environment import environment
from prunedlora.trial.trial_harness import Harness, harness_settings, harness_tokenizer


def measure_stored(store: Store, candidate: str, tasks: Sequence[str], config: HarnessConfig) -> HarnessRun:
    """Measures the adapter of `<key>` (its last as it was trained) or `<key>@<candidate>` in a store, in one process.
    Writes nothing: results.harness keeps what comes out.

    Raises:
        UnknownCandidateError: no such candidate.
        StoredAdapterError: its adapter is gone or damaged.
        HarnessError: as `load_tasks`, or the trial's model has a classification head, or a figure
            is not finite.
        ModelError, LocationError: the base model cannot be loaded.
    """
    record, chosen = find_candidate(store, candidate)
    trial = recorded_trial(record)
    task = lookup("task", trial.data.task)
    if task.auto_model != "AutoModelForCausalLM":
        raise HarnessError(
            f"{candidate}: lm-evaluation-harness needs a causal language model; that of task {trial.data.task!r} has a "
            "classification head"
        )
    settings = harness_settings(tasks, config)
    harness = Harness(settings, load_tasks(settings))
    harness_tokenizer(trial, settings)  # a chat template that is not there is told before the base is loaded
    workers = Workers(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapter"
        fetch_adapter(store, record, chosen, folder)
        base = load_base_of(trial, task.auto_model, {}, workers.device)
        measured = harness.measure(load(base.model, folder, ADAPTER), trial, base.dtype, workers)
    if measured.left_out:
        raise HarnessError(measured.left_out)  # whoever asked for it is to know
    return HarnessRun(
        key=record.key,
        candidate=chosen.name,
        tasks=tuple(tasks),
        settings=config.model_dump(),
        figures=measured.figures,
        environment=environment(workers, None).model_copy(update={"model": model_facts(trial, base)}),
    )
