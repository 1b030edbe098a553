"""A candidate's adapter, out of its store and into a folder: there, whole, and the file that was recorded."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from prunedlora.adapters.export import CONFIG_NAME, WEIGHTS_NAME
from prunedlora.checksums import file_sha256
from prunedlora.results.record import Candidate, RecordError, TrialRecord, json_object
from prunedlora.results.store import Store

AS_RECORDED = "sha256 as recorded"
UNCHECKED = "unchecked: the record is older than checksums"


class StoredAdapterError(ValueError):
    """An adapter that is not there, or is not what was recorded; the message says where and how."""


def adapter_path(store: Store, record: TrialRecord, candidate: Candidate) -> str:
    """Path of the candidate's adapter in the store. Raises StoredAdapterError, with the reason, when it has none."""
    if candidate.adapter_path is None:
        reason = "it was deleted (retention.adapters)"
        if candidate.max_rank == 0:
            reason = "every layer has rank 0"
        elif not candidate.ranks:
            reason = "full fine-tuning leaves none"
        raise StoredAdapterError(f"{record.key}@{candidate.name}: there is no adapter: {reason}")
    return store.trial_path(record.key, candidate.adapter_path)


def fetch_adapter(store: Store, record: TrialRecord, candidate: Candidate, to: Path) -> str:
    """Copies the candidate's folder to `to`, which must not exist, and says how its weights were checked.

    Raises:
        StoredAdapterError: there is no adapter, its folder, weights or configuration are gone, cannot be read, or are
            not those of the record.
        StoreError: the storage does not answer.
    """
    path = adapter_path(store, record, candidate)
    origin = store.storage.uri_of(path)
    if not store.has_folder(path):
        raise StoredAdapterError(f"{origin} does not exist: the adapter is gone")
    store.download_folder(path, to)
    for name in (WEIGHTS_NAME, CONFIG_NAME):
        if not (to / name).is_file():
            raise StoredAdapterError(f"{origin} has no {name}: the adapter is gone or damaged")
    try:
        json_object((to / CONFIG_NAME).read_text("utf-8"), f"{origin}/{CONFIG_NAME}")
    except (RecordError, UnicodeDecodeError) as error:
        raise StoredAdapterError(f"the adapter is damaged: {error}") from error
    return _check_weights(to / WEIGHTS_NAME, f"{origin}/{WEIGHTS_NAME}", candidate.file_sha256)


def _check_weights(file: Path, origin: str, recorded: str | None) -> str:
    if recorded is not None and (found := file_sha256(file)) != recorded:
        raise StoredAdapterError(f"{origin} is damaged: sha256 {found[:12]}…, {recorded[:12]}… was recorded")
    try:
        with safe_open(file, "pt"):  # a cut file has other lengths than its header says
            pass
    except SafetensorError as error:
        raise StoredAdapterError(f"{origin} is damaged: {error}") from error
    return UNCHECKED if recorded is None else AS_RECORDED
