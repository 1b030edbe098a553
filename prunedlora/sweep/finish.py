"""After the last trial: the recommended adapter is tested and copied out, adapters nobody needs are deleted."""

import tempfile
from pathlib import Path

from prunedlora.delivery.candidate_test import TEST_FILE, read_test_figures
from prunedlora.delivery.class_names import write_labels
from prunedlora.fleet.board import Work
from prunedlora.results.analysis.nameable import nameable
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store

RECOMMENDED_FOLDER = "recommended"


def base_work() -> Work:
    return {"kind": "base", "key": "", "candidate": ""}


def missing_test(summary: Summary) -> Work | None:
    """The test evaluation that is still missing; None when there is nothing to recommend or it is done."""
    if summary.recommended is None or summary.exported is not None:
        return None
    return {"kind": "test", "key": summary.recommended.key, "candidate": summary.recommended.candidate.name}


def export_recommended(store: Store, work: Work) -> ExportedAdapter:
    """Copies the tested adapter to the store's `recommended` folder, with the names of its classes, and writes its test
    figures beside the sweep.

    Raises RecordError when the test's file is broken, StoreError when adapter or file is not there.
    """
    record = store.read_record(work["key"])
    assert record is not None
    candidate = record.candidate(work["candidate"])
    folder = store.trial_path(work["key"], str(candidate.adapter_path))
    figures = read_test_figures(store, f"{folder}/{TEST_FILE}")
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "adapter"
        store.download_folder(folder, local)
        (local / TEST_FILE).unlink()
        write_labels(record, local)
        store.upload_folder(local, RECOMMENDED_FOLDER)
    exported = ExportedAdapter(
        key=work["key"],
        step=candidate.step,
        cut=candidate.cut,
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
