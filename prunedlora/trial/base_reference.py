"""The untrained base model on the axes of the sweep."""

from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import BaseReference
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.candidates import recorded, validation_examples
from prunedlora.trial.failures import loading
from prunedlora.trial.trial_harness import load_harness


def measure_base(config: TrialConfig, *, store: Store, assets: AssetCache, workers: Workers) -> None:
    """Evaluates the untrained base model on the validation split, and by its harness tasks, and writes base.json.

    Raises NodeError for what this node cannot load.
    """
    with loading("base model and data of the sweep"):
        harness = load_harness(config, workers.num_workers)
        loaded = assets.get(config)
    outcomes = evaluate(
        loaded.base.model,
        loaded.task,
        validation_examples(config, loaded),
        batch_size=config.evaluation.batch_size,
        dtype=loaded.base.dtype,
        workers=workers,
    )
    measured = recorded(figures(outcomes))
    if harness is not None:
        measured |= harness.measure(loaded.base.model, config, loaded.base.dtype, workers).figures
    if workers.rank == 0:
        store.write_base(BaseReference(figures=measured))
