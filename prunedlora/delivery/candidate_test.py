"""A stored adapter on the test split, which the search never sees: measured once, kept beside it."""

import json
import tempfile
from pathlib import Path

from prunedlora.adapters.attach import detach, load
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.class_names import recorded_labels
from prunedlora.delivery.stored_adapter import adapter_path, fetch_adapter
from prunedlora.results.analysis.tested import TEST_FILE, on_test
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.candidates import ADAPTER, certificate_facts, example_outcomes, recorded, verified
from prunedlora.trial.failures import loading


def measure_test(
    config: TrialConfig, key: str, candidate: str, *, store: Store, assets: AssetCache, workers: Workers
) -> None:
    """Evaluates a candidate's exported adapter, as PEFT loads it, on the test split, its classes in the order on
    record; writes TEST_FILE beside it, and its outcomes by example under the name `on_test`.

    Raises:
        StoredAdapterError: the adapter is gone, or is not the one that was recorded.
        VerificationError: the model with the adapter merged into its weights gives other logits.
        NodeError: this node cannot load the base model or the data.
    """
    record = store.read_record(key)
    assert record is not None
    with loading(f"base model and data of trial {key}"):
        loaded = assets.get(config, recorded_labels(record))
    tested = record.candidate(candidate)
    path = adapter_path(store, record, tested)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "adapter"
        fetch_adapter(store, record, tested, folder)
        try:
            model = load(loaded.base.model, folder, ADAPTER)
        except Exception:
            assets.clear_if_adapted()
            raise
        try:
            outcomes = evaluate(
                model,
                loaded.task,
                loaded.test,
                batch_size=config.evaluation.batch_size,
                dtype=loaded.base.dtype,
                workers=workers,
            )
            merged = config.model.quantization is None  # 4-bit weights cannot take up an update exactly
            certificate = verified(model, loaded.base.dtype, folder, loaded, workers, merged=merged)
        finally:
            detach(model)
    if workers.rank == 0:
        measured = {name: figure.model_dump() for name, figure in recorded(figures(outcomes)).items()}
        store.write_outcomes(key, on_test(candidate), example_outcomes(outcomes))
        content = {"figures": measured, "certificate": certificate_facts(certificate)}
        store.storage.write_text(f"{path}/{TEST_FILE}", json.dumps(content, allow_nan=False, indent=1) + "\n")
