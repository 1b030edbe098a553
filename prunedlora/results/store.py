"""Store: the folder of one sweep. Only this module, and sweep_binding.py of what is its own, know where things lie.

    sweep.yaml                      what is asked
    driver.json                     who drives it, with a heartbeat (driver_lock.py)
    drivers/<epoch>.json            who took it, for each time that it was taken; created, never replaced
    base.json                       the untrained base model on the same axes
    asks/<number>.json              what the study proposed, written before a trial is queued
    confirmations/<number>.json     what is trained again with fresh seeds, written before any of it is
    contents.json                   what models and data are by content (this and the next three: sweep_binding.py)
    key_version.json                the version of what settings mean, with which its trials have their keys
    commits.json                    what names on the Hub stood for when the sweep began; null: it was not told
    data/<hash>.json                fingerprint of the examples of one data section, as the sweep's file writes it,
                                    by who loaded them first
    plan.json                       what the sweep was planned to take (analysis/plan_document.py); there before the
                                    sweep, which alone makes a store of the folder
    warm_start.json                 what the search took from earlier sweeps, before it asked (warm_start_document.py)
    optuna.db, mlflow.db,           the study and curves for other tools, never read (study/mirror.py, sweep/curves.py)
      mlflow-artifacts/, tensorboard/
    command.txt                     how the last run was started
    importances.json                which searched fields mattered, at the end of the last run
    trials/<key>/config.json        the resolved configuration
    trials/<key>/attempts.json      starts of the trial, per driver
    trials/<key>/checkpointed.json  the start that left the last new checkpoint, per driver
    trials/<key>/failures/          what ranks had to say that could not go on (trial/last_words.py)
    trials/<key>/log.jsonl          figures along the way
    trials/<key>/checkpoints/<…>/   to resume from
    trials/<key>/adapters/<step>/   plain PEFT adapters
    trials/<key>/outcomes/<…>.json  what a candidate did on each validation example
    trials/<key>/looks/<step>.json  what it was judged by on the way, written before it ends or goes on
    trials/<key>/goes_on.json       that it goes on though it was stopped, written before it does
    trials/<key>/latency/<…>.json   measured on demand (latency.py)
    trials/<key>/record.json        what came out, written last
    trials/<key>/harness/<…>.json   what lm-evaluation-harness measured afterwards (harness.py)
    recommended.json                test figures and path of the exported adapter
    report/

One writer per file; everything the driver knows can be rebuilt from here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prunedlora.results.ask import Ask, ConfirmationPlan
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import (
    BaseReference,
    D,
    Document,
    ExampleOutcomes,
    GoesOn,
    RecordError,
    StoredLook,
    TrialRecord,
    from_json,
    json_object,
    to_json,
)
from prunedlora.results.storage import Storage, StoreError
from prunedlora.results.sweep_binding import Binding, differing_fields, plain

SWEEP_FILE = "sweep.yaml"
COMMAND_FILE = "command.txt"
BASE_FILE = "base.json"
EXPORTED_FILE = "recommended.json"
PLAN_FILE = "plan.json"
LEFT_BY_PLANS = {PLAN_FILE, "ray"}
"""What `prunedlora plan` leaves in a folder that is no store yet; "ray" where it was killed."""
ATTEMPTS, CHECKPOINTED = "attempts.json", "checkpointed.json"


class AskTakenError(StoreError):
    """An ask whose number another driver took."""


class StaleWriterError(RuntimeError):
    """A writer whose driver, or whose attempt at the trial, has been replaced; its result must not land."""


class Store:
    """The results of one sweep on a local path or any fsspec filesystem. Making the object touches nothing."""

    def __init__(self, uri: str) -> None:
        """Raises StoreError when the protocol is unknown or its package is not installed."""
        self.storage = Storage(uri)
        self.binding = Binding(self.storage)

    @property
    def uri(self) -> str:
        """Absolute local path or URI."""
        return self.storage.uri

    # --- the sweep

    def open(self) -> None:
        """Raises StoreError when this is not a store."""
        if not self.storage.exists(SWEEP_FILE):
            raise StoreError(f"{self.uri} is no store: it has no sweep.yaml")

    def create_or_open(self, sweep: Mapping[str, Any]) -> bool:
        """Makes the store of a sweep (True), or opens one (False) and leaves its sweep.yaml as it is: another driver
        may hold it. A store in which nothing was asked or evaluated yet (its sweep was refused, or could not start) may
        become that of any sweep, by `write_sweep`.

        `sweep` is the whole resolved sweep as plain JSON data. Raises StoreError when the storage cannot be written,
        holds other files, or holds the store of another sweep; the message names the fields that differ.
        """
        self.check(sweep)
        if self.storage.exists(SWEEP_FILE):
            return False
        self.write_sweep(sweep)
        return True

    def check(self, sweep: Mapping[str, Any]) -> bool:
        """Whether the store of this sweep is there already. Raises as `create_or_open`, but writes nothing."""
        if not self.storage.exists(SWEEP_FILE):
            if foreign := [name for name in self.storage.names("") if name not in LEFT_BY_PLANS]:
                found = ", ".join(foreign[:5])
                raise StoreError(f"{self.uri} is not empty and no store (it holds {found}); give another storage")
            return False
        differing = differing_fields(self.read_sweep(), sweep)
        if differing and not self.binding.is_bound():
            return False
        if differing:
            raise StoreError(
                f"{self.uri} holds another sweep: {'; '.join(differing)}. Give another storage or set them as they were"
            )
        return True

    def write_command(self, command: str) -> None:
        """Remembers the shell command of the run; for the driver that holds the lock."""
        self.storage.write_text(COMMAND_FILE, command + "\n")

    def read_command(self) -> str | None:
        """The shell command of the last run; None where it was not started by one."""
        text = self.storage.read_text(COMMAND_FILE)
        return None if text is None else text.removesuffix("\n")

    def write_sweep(self, sweep: Mapping[str, Any]) -> None:
        """Replaces sweep.yaml; for the driver that holds the lock."""
        self.storage.write_text(SWEEP_FILE, yaml.safe_dump(plain(sweep), sort_keys=False, allow_unicode=True))

    def read_sweep(self) -> dict[str, Any]:
        """Raises StoreError when there is none, RecordError when it is broken."""
        text = self.storage.read_text(SWEEP_FILE)
        if text is None:
            raise StoreError(f"{self.uri} is no store: it has no sweep.yaml")
        path = self.storage.uri_of(SWEEP_FILE)
        try:
            sweep = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecordError(f"{path}: not YAML: {error}") from error
        if not isinstance(sweep, dict):
            raise RecordError(f"{path}: not a mapping but a {type(sweep).__name__}")
        return sweep

    # --- asks

    def write_ask(self, ask: Ask) -> None:
        """Raises AskTakenError when the number is another ask's: none is ever edited. May be tried again after any
        other StoreError."""
        path = f"asks/{ask.number:06d}.json"
        if not self.storage.create_text(path, to_json(ask)):
            raise AskTakenError(f"{self.storage.uri_of(path)}: ask {ask.number} is already written")

    def asks(self) -> list[Ask]:
        """All asks in the order of their numbers. Raises RecordError naming a broken one."""
        paths = [f"asks/{name}" for name in self.storage.names("asks")]
        return sorted((ask for ask in self.read_documents(Ask, paths) if ask is not None), key=lambda ask: ask.number)

    # --- confirmations

    def write_confirmation(self, plan: ConfirmationPlan) -> None:
        """Raises StoreError when there is one of this number: none is ever edited."""
        path = f"confirmations/{plan.number:06d}.json"
        if not self.storage.create_text(path, to_json(plan)):
            raise StoreError(f"{self.storage.uri_of(path)} is there already: another driver began a confirmation")

    def confirmations(self) -> list[ConfirmationPlan]:
        """All plans in the order of their numbers. Raises RecordError naming a broken one."""
        paths = [f"confirmations/{name}" for name in sorted(self.storage.names("confirmations"))]
        return [plan for plan in self.read_documents(ConfirmationPlan, paths) if plan is not None]

    # --- trials

    def trial_path(self, key: str, *parts: str) -> str:
        """Path inside the store of something of a trial: `trial_path(key, "checkpoints", "000100")`."""
        return "/".join(("trials", key, *parts))

    def write_config(self, key: str, config: Mapping[str, Any]) -> None:
        text = json.dumps(config, sort_keys=True, allow_nan=False, indent=1) + "\n"
        self.storage.write_text(self.trial_path(key, "config.json"), text)

    def read_config(self, key: str) -> dict[str, Any]:
        """Raises StoreError when the trial has none, RecordError when it is broken."""
        return self._config(key, self.storage.read_text(self.trial_path(key, "config.json")))

    def read_configs(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """As `read_config` for each, fetched together where the storage can."""
        paths = [self.trial_path(key, "config.json") for key in keys]
        found = zip(keys, self.storage.read_texts(paths), strict=True)
        return [self._config(key, text) for key, text in found]

    def _config(self, key: str, text: str | None) -> dict[str, Any]:
        path = self.storage.uri_of(self.trial_path(key, "config.json"))
        if text is None:
            raise StoreError(f"{path} does not exist: trial {key} was never queued")
        return json_object(text, path)

    def write_label(self, key: str, label: str) -> None:
        """What people call the trial; its record takes it over."""
        self.storage.write_text(self.trial_path(key, "label.txt"), label)

    def read_label(self, key: str) -> str | None:
        """None for a trial without a name."""
        return self.storage.read_text(self.trial_path(key, "label.txt"))

    def begin_attempt(self, key: str, driver_epoch: int) -> int:
        """Counts one more start of a trial; returns its number among those under this driver, from 1."""
        attempts = self._counts(key, ATTEMPTS)
        attempts[str(driver_epoch)] = attempts.get(str(driver_epoch), 0) + 1
        self.storage.write_text(self.trial_path(key, ATTEMPTS), json.dumps(attempts, sort_keys=True) + "\n")
        return attempts[str(driver_epoch)]

    def num_attempts(self, key: str, driver_epoch: int | None = None) -> int:
        """Starts of a trial under a driver; None: under all of them."""
        attempts = self._counts(key, ATTEMPTS)
        return sum(attempts.values()) if driver_epoch is None else attempts.get(str(driver_epoch), 0)

    def note_checkpoint(self, key: str, driver_epoch: int, attempt: int) -> None:
        """Remembers that this attempt has left a checkpoint further on than any before it."""
        noted = self._counts(key, CHECKPOINTED) | {str(driver_epoch): attempt}
        self.storage.write_text(self.trial_path(key, CHECKPOINTED), json.dumps(noted, sort_keys=True) + "\n")

    def num_attempts_since_checkpoint(self, key: str, driver_epoch: int) -> int:
        """Starts of a trial under a driver after the one that left the last new checkpoint."""
        return self.num_attempts(key, driver_epoch) - self._counts(key, CHECKPOINTED).get(str(driver_epoch), 0)

    def last_checkpointed(self, key: str) -> tuple[int, int]:
        """The start that left the last new checkpoint: its driver's epoch, and its number under it; (0, 0): none."""
        noted = self._counts(key, CHECKPOINTED)
        return max(((int(epoch), attempt) for epoch, attempt in noted.items()), default=(0, 0))

    def has_failed(self, key: str, driver_epoch: int) -> bool:
        """Whether the trial's last start was under this driver and is on record as failed. The failed record of an
        earlier one stays until a trial that is retried ends."""
        record = self.read_record(key)
        failed = record is not None and record.status == "failed" and record.attempts == self.num_attempts(key)
        return failed and self.num_attempts(key, driver_epoch) > 0

    def write_record(self, record: TrialRecord, driver_epoch: int, attempt: int | None = None) -> None:
        """Replaces the record of a trial.

        `driver_epoch` and `attempt` (of that driver, from `begin_attempt`) say on whose behalf. Raises
        StaleWriterError when another driver has taken over or the trial was started again since.
        """
        self.check_writer(record.key, driver_epoch, attempt)
        self.storage.write_text(self.trial_path(record.key, "record.json"), to_json(record))

    def check_writer(self, key: str, driver_epoch: int, attempt: int | None = None) -> None:
        """Raises StaleWriterError when the driver or the attempt has been replaced."""
        text = self.storage.read_text("driver.json")
        current = driver_epoch if text is None else json_object(text, self.storage.uri_of("driver.json")).get("epoch")
        if current != driver_epoch:
            raise StaleWriterError(f"trial {key}: driver epoch {driver_epoch} was replaced by {current}; not written")
        latest = self._counts(key, ATTEMPTS).get(str(driver_epoch))
        if attempt is not None and latest is not None and attempt != latest:
            raise StaleWriterError(f"trial {key}: attempt {attempt} was replaced by {latest}; not written")

    def read_record(self, key: str) -> TrialRecord | None:
        """None while there is none: as the folder says now, not as it was remembered on this machine. Raises
        RecordError naming a broken or newer one."""
        path = self.trial_path(key, "record.json")
        text = self.storage.read_awaited_text(path)
        return None if text is None else from_json(TrialRecord, text, self.storage.uri_of(path))

    def write_outcomes(self, key: str, candidate: str, outcomes: ExampleOutcomes) -> None:
        """`candidate`: its name within the trial; beside the record, which would grow too large with them."""
        self.storage.write_text(self.trial_path(key, "outcomes", f"{candidate}.json"), outcomes.model_dump_json())

    def add_scores(self, key: str, candidate: str, figure: str, scores: Sequence[float], documents: str) -> None:
        """Adds the scores of lm-evaluation-harness's documents to a candidate's outcomes, which are there."""
        found = self.read_outcomes(key, candidate)
        assert found is not None
        added = {"scores": found.scores | {figure: tuple(scores)}, "documents": documents}
        self.write_outcomes(key, candidate, found.model_copy(update=added))

    def read_outcomes(self, key: str, candidate: str) -> ExampleOutcomes | None:
        """None where there are none: stores of earlier versions. Raises RecordError for a broken file."""
        return self.read_many_outcomes([(key, candidate)])[0]

    def read_many_outcomes(self, candidates: Sequence[tuple[str, str]]) -> list[ExampleOutcomes | None]:
        """As `read_outcomes` for pairs of key and candidate, fetched together where the storage can."""
        paths = [self.trial_path(key, "outcomes", f"{candidate}.json") for key, candidate in candidates]
        return self.read_documents(ExampleOutcomes, paths)

    def write_look(self, key: str, stored: StoredLook) -> None:
        """Replaces the one of its step."""
        self.write_document(self._look_path(key, stored.look.step), stored)

    def read_look(self, key: str, step: int) -> StoredLook | None:
        """None where the trial was not looked at after this step. Raises RecordError for a broken file."""
        return self.read_document(StoredLook, self._look_path(key, step))

    def looks(self, key: str) -> list[StoredLook]:
        """All looks at a trial, in order of the steps. Raises RecordError for a broken file."""
        folder = self.trial_path(key, "looks")
        paths = [f"{folder}/{name}" for name in self.storage.names(folder)]
        return [stored for stored in self.read_documents(StoredLook, paths) if stored is not None]

    def read_looks_of(self, records: Sequence[TrialRecord]) -> dict[str, list[StoredLook]]:
        """Key → the looks that these records name, fetched together where the storage can."""
        named = [(record.key, look.step) for record in records for look in record.looks]
        found = self.read_documents(StoredLook, [self._look_path(key, step) for key, step in named])
        looks: dict[str, list[StoredLook]] = {record.key: [] for record in records}
        for (key, _), stored in zip(named, found, strict=True):
            if stored is not None:
                looks[key].append(stored)
        return looks

    def _look_path(self, key: str, step: int) -> str:
        return self.trial_path(key, "looks", f"{step:08d}.json")

    def write_goes_on(self, key: str, goes_on: GoesOn) -> None:
        self.write_document(self.trial_path(key, "goes_on.json"), goes_on)

    def read_goes_on(self, key: str) -> GoesOn | None:
        """None for a trial that was not stopped, or has ended with that."""
        return self.read_document(GoesOn, self.trial_path(key, "goes_on.json"))

    def trial_keys(self, beginning: str = "") -> list[str]:
        """The keys of all trials that were queued, with a record or without, that begin so, sorted."""
        return [key for key in self.storage.names("trials") if key.startswith(beginning)]

    def records(self, beginning: str = "") -> list[TrialRecord]:
        """All records whose key begins so, sorted by key. Raises RecordError naming a broken or newer one."""
        return self.records_of(self.trial_keys(beginning))

    def records_of(self, keys: Iterable[str]) -> list[TrialRecord]:
        """The records of those of these trials that have one, in their order, fetched together where the storage can.
        Raises RecordError naming a broken or newer one."""
        paths = [self.trial_path(key, "record.json") for key in keys]
        return [record for record in self.read_documents(TrialRecord, paths) if record is not None]

    def append_log(self, key: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines to a trial's log; on object stores the whole log is written anew, so send many at once."""
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        self.storage.append_text(self.trial_path(key, "log.jsonl"), text)

    def read_log(self, key: str) -> list[dict[str, Any]]:
        """The log as one run would have left it: where a trial was resumed, steps that it did again count once, and so
        does what it said again of the step that it went on from.

        Raises RecordError naming path and line of a broken one.
        """
        path = self.trial_path(key, "log.jsonl")
        entries: list[dict[str, Any]] = []
        said: list[dict[str, Any]] = []
        for number, line in enumerate((self.storage.read_text(path) or "").splitlines(), start=1):
            entry = json_object(line, f"{self.storage.uri_of(path)}:{number}")
            if (resumed := entry.get("resumed_at_step")) is not None:
                entries = [earlier for earlier in entries if earlier.get("step", 0) <= resumed]
                said = [earlier for earlier in entries if earlier.get("step") == resumed]
            if entry not in said:
                entries.append(entry)
        return entries

    # --- folders of trials, by their path in the store

    def upload_folder(self, local: Path, path: str) -> None:
        """Puts a copy of a local folder at `path`; readers see it whole or not at all."""
        self.storage.upload_folder(local, path)

    def download_folder(self, path: str, local: Path) -> None:
        """Copies a folder to a local one that does not exist yet. Raises StoreError when it is not there whole."""
        self.storage.download_folder(path, local)

    def delete_folder(self, path: str) -> None:
        self.storage.delete_folder(path)

    def has_folder(self, path: str) -> bool:
        return self.storage.has_folder(path)

    def checkpoints(self, key: str) -> list[str]:
        """Names of the complete checkpoints of a trial, sorted as text (so pad step numbers with zeros)."""
        return self.storage.folders(self.trial_path(key, "checkpoints"))

    # --- beside the trials

    def write_base(self, base: BaseReference) -> None:
        self.write_document(BASE_FILE, base)

    def read_base(self) -> BaseReference | None:
        """None when the base model was not evaluated."""
        return self.read_document(BaseReference, BASE_FILE)

    def write_exported(self, exported: ExportedAdapter) -> None:
        self.write_document(EXPORTED_FILE, exported)

    def read_exported(self) -> ExportedAdapter | None:
        """None when nothing was exported yet."""
        return self.read_document(ExportedAdapter, EXPORTED_FILE)

    # --- documents, by their path in the store

    def write_document(self, path: str, document: Document) -> None:
        self.storage.write_text(path, to_json(document))

    def read_document(self, kind: type[D], path: str) -> D | None:
        """None when it is not there. Raises RecordError for a broken or newer one."""
        return self.read_documents(kind, [path])[0]

    def read_documents(self, kind: type[D], paths: Sequence[str]) -> list[D | None]:
        """As `read_document`, fetched together where the storage can."""
        return [
            None if text is None else from_json(kind, text, self.storage.uri_of(path))
            for path, text in zip(paths, self.storage.read_texts(paths), strict=True)
        ]

    def _counts(self, key: str, name: str) -> dict[str, int]:
        path = self.trial_path(key, name)
        text = self.storage.read_text(path)
        counts = {} if text is None else json_object(text, self.storage.uri_of(path))
        if not all(isinstance(count, int) for count in counts.values()):
            raise RecordError(f"{self.storage.uri_of(path)}: not counts: {counts}")
        return counts
