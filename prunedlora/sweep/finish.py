"""After the last trial: the recommended adapter is tested and copied out, adapters nobody needs are deleted."""

import tempfile
from pathlib import Path

from prunedlora.delivery.candidate_test import TEST_FILE, read_test
from prunedlora.delivery.companions import write_companions
from prunedlora.delivery.form import AS_TRAINED
from prunedlora.delivery.stored_adapter import adapter_path, fetch_adapter
from prunedlora.results.analysis.nameable import nameable
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store

RECOMMENDED_FOLDER = "recommended"


def missing_test(summary: Summary) -> Point | None:
    """The recommended adapter, while its test evaluation is missing; None when there is none or it is done."""
    return None if summary.exported is not None else summary.recommended


def export_recommended(store: Store, key: str, candidate: str) -> ExportedAdapter:
    """Copies the tested adapter to the store's `recommended` folder, with what lies beside an adapter that is handed
    over (delivery/companions.py), and writes its test figures beside the sweep. It was checked when it was tested: no
    model is loaded.

    Raises RecordError when the test's file is broken, StoredAdapterError when the adapter is gone or damaged.
    """
    record = store.read_record(key)
    assert record is not None
    tested = record.candidate(candidate)
    figures, checks = read_test(store, f"{adapter_path(store, record, tested)}/{TEST_FILE}")
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "adapter"
        checked = {"weights_file": fetch_adapter(store, record, tested, local)} | checks
        (local / TEST_FILE).unlink()
        write_companions(record, tested, local, original=local, form=AS_TRAINED, checks=checked, test=figures)
        store.upload_folder(local, RECOMMENDED_FOLDER)
    exported = ExportedAdapter(
        key=key,
        step=tested.step,
        cut=tested.cut,
        test=figures,
        path=store.storage.uri_of(RECOMMENDED_FOLDER),
    )
    store.write_exported(exported)
    return exported


def drop_dominated(summary: Summary, epoch: int) -> list[TrialRecord]:
    """Deletes the adapters that no command can name any more (results/analysis/nameable.py); returns all records as
    they are then.

    Their figures stay: the records are replaced by ones without the paths, before the files go.
    """
    store, kept = summary.store, nameable(summary)
    records = {record.key: record for record in summary.records}
    for record in summary.records:
        if record.status == "failed":  # --retry-failed may go on from its checkpoint, which names its adapters
            continue
        doomed = [c for c in record.candidates if c.adapter_path is not None and f"{record.key}@{c.name}" not in kept]
        if not doomed:
            continue
        candidates = tuple(c.model_copy(update={"adapter_path": None}) if c in doomed else c for c in record.candidates)
        records[record.key] = record.model_copy(update={"candidates": candidates})
        store.write_record(records[record.key], epoch)
        for candidate in doomed:
            store.delete_folder(store.trial_path(record.key, str(candidate.adapter_path)))
    return list(records.values())
