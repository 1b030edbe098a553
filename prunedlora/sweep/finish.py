"""After the last trial: the recommended adapter is tested and copied out, adapters nobody needs are deleted."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prunedlora.delivery.companions import write_companions
from prunedlora.delivery.form import AS_TRAINED
from prunedlora.delivery.served_folders import write_served_folders
from prunedlora.delivery.stored_adapter import adapter_path, fetch_adapter
from prunedlora.results.analysis.confirmation import confirming_keys
from prunedlora.results.analysis.nameable import nameable
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.analysis.tested import TEST_FILE, original_test, read_test, tested
from prunedlora.results.exported_adapter import RECOMMENDED_FOLDER, ExportedAdapter
from prunedlora.results.record import TrialRecord
from prunedlora.results.report.told import Told, told_of
from prunedlora.results.store import Store


def is_recommended_left(summary: Summary) -> bool:
    """Whether the recommended adapter, or the one that it began with, has still to be tested, or it to be exported, as
    the sweep's servers need it."""
    exported = summary.exported
    if summary.recommended is None:
        return False
    return (
        exported is None
        or exported.serve_on != summary.objectives.serve_on
        or (_original(summary) is not None and exported.original_test is None)
    )


def missing_tests(summary: Summary) -> list[Point]:
    """Of the recommended adapter and the one that it began with, those that were not measured on the test split."""
    wanted = [point for point in (summary.recommended, _original(summary)) if point is not None]
    done = tested(summary.store, wanted) if is_recommended_left(summary) else {point.name: {} for point in wanted}
    return [point for point in wanted if point.name not in done]


def finish_recommended(summary: Summary, test: Callable[[Point, str], str | None]) -> list[str]:
    """Has the recommended adapter tested, beside the one that it began with, and copies it out.

    `test`: measures a point, which it is told with what that is; returns why it could not. Returns what went wrong.
    Raises as `export_recommended`.
    """
    recommended, problems, is_tested = summary.recommended, [], True
    for point in missing_tests(summary):
        is_it = recommended is not None and point.name == recommended.name
        what = "the recommended adapter" if is_it else "the adapter that it began with"
        if problem := test(point, what):
            is_tested = is_tested and not is_it
            problems.append(f"{what} was not tested{' and not exported' if is_it else ''}: {problem}")
    if recommended is not None and is_tested and is_recommended_left(summary):
        told = told_of(summary, recommended.name)
        serve_on = summary.objectives.serve_on
        exported = export_recommended(summary.store, recommended.key, recommended.candidate.name, told, serve_on)
        problems += exported.not_made
    return problems


def _original(summary: Summary) -> Point | None:
    """The adapter that the recommended one began with, where it is another and has a file."""
    recommended = summary.recommended
    original = None if recommended is None else summary.originals.get(recommended.key)
    if original is None or recommended is None or original.name == recommended.name:
        return None
    return None if original.candidate.adapter_path is None else original


def export_recommended(
    store: Store, key: str, candidate: str, told: Told | None, serve_on: Sequence[str] = ()
) -> ExportedAdapter:
    """Copies the tested adapter to the store's `recommended` folder, with what lies beside an adapter that is handed
    over (delivery/companions.py), `told` among it, and writes its test figures beside the sweep. Forms that the servers
    of `serve_on` need lie in folders within (delivery/served_folders.py). It was checked when it was tested: no model
    is loaded.

    Raises RecordError when the test's file is broken, StoredAdapterError when the adapter is gone or damaged.
    """
    record = store.read_record(key)
    assert record is not None
    chosen = record.candidate(candidate)
    measured = read_test(store, f"{adapter_path(store, record, chosen)}/{TEST_FILE}")
    began = None if chosen.is_original else original_test(store, record)
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "adapter"
        checked = {"weights_file": fetch_adapter(store, record, chosen, local)} | measured.certificate
        (local / TEST_FILE).unlink()
        beside: Any = {"checks": checked, "test": measured.figures, "began": began or {}, "told": told}
        not_made = write_served_folders(record, chosen, local, serve_on, **beside)
        write_companions(record, chosen, local, form=AS_TRAINED, **beside)
        store.upload_folder(local, RECOMMENDED_FOLDER)
    exported = ExportedAdapter(
        key=key,
        step=chosen.step,
        cut=chosen.cut,
        test=measured.figures,
        original_test=began,
        serve_on=tuple(serve_on),
        not_made=tuple(not_made),
        path=store.storage.uri_of(RECOMMENDED_FOLDER),
    )
    store.write_exported(exported)
    return exported


def drop_dominated(summary: Summary, epoch: int) -> list[TrialRecord]:
    """Deletes the adapters that no command can name any more (results/analysis/nameable.py); returns all records as
    they are then.

    Their figures stay: the records are replaced by ones without the paths, before the files go.
    """
    store, kept, confirming = summary.store, nameable(summary), confirming_keys(summary.plans)
    records = {record.key: record for record in summary.records}
    for record in summary.records:
        if record.key in confirming:  # they are no candidates of a recommendation, and were asked for by name
            continue
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
