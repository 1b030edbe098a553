import json
import os

import pytest

from prunedlora.results.ask import Ask
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import BaseReference, Failure, Figure, RecordError, to_json
from prunedlora.results.storage import StoreError
from prunedlora.results.store import StaleWriterError, Store


@pytest.fixture
def store(uri, sweep):
    made = Store(uri)
    made.create_or_open(sweep)
    return made


def ask(number, **changes):
    fields = {
        "number": number,
        "key": f"k{number}",
        "kind": "search",
        "params": {"lr": 1e-05, "schedule": "cubic", "rank": 4},
        "distributions": {"lr": json.dumps({"name": "FloatDistribution"})},
        "system_attrs": {"nsga2:generation": 0},
    }
    return Ask(**(fields | changes))


def test_a_store_is_made_once_and_opened_after(uri, sweep):
    store = Store(uri)
    with pytest.raises(StoreError, match=r"is no store: it has no sweep\.yaml"):
        store.open()
    with pytest.raises(StoreError, match=r"is no store: it has no sweep\.yaml"):
        store.read_sweep()
    assert store.create_or_open(sweep) is True
    assert store.create_or_open(sweep) is False
    store.open()
    assert Store(store.uri).read_sweep() == sweep


def test_trials_time_and_resources_may_change(store, sweep):
    changed = sweep | {"num_trials": 9, "max_seconds": 5.0, "resources": {"num_slots": 2}, "name": "other"}
    assert store.create_or_open(changed) is False
    assert store.read_sweep() == sweep
    store.write_sweep(changed)
    assert store.read_sweep() == changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objectives": {"loss": "minimize", "adapter_params": "minimize"}},
            r'objectives\.accuracy was "maximize", is null',
        ),
        (
            {"trial": {"adapter": {"method": "lora"}}},
            r'trial\.adapter\.method was "prunedlora", is "lora"; trial\.optim',
        ),
        ({"space": {}}, r"space\.adapter\.initial_rank was .*, is null"),
        ({"sampler": "random"}, 'sampler was "tpe", is "random"'),
        ({"seed": 1}, "seed was 0, is 1"),
    ],
)
def test_another_sweep_is_refused_with_what_differs(store, sweep, change, message):
    assert store.create_or_open(sweep | change) is False  # nothing was asked yet, but another driver may hold it
    assert store.read_sweep() == sweep
    store.write_ask(ask(0))
    with pytest.raises(StoreError, match=f"holds another sweep: .*{message}"):
        store.create_or_open(sweep | change)


def test_baselines_may_change(store, sweep):
    store.write_sweep(sweep | {"baselines": [{"adapter.initial_rank": 2}]})
    store.write_ask(ask(0))
    assert store.create_or_open(sweep | {"baselines": [{"adapter.initial_rank": 4}]}) is False


def test_models_and_data_stay_what_they_were(store):
    store.binding.write_contents({"some/model": "some/model", "a.csv": {"a.csv": "1"}})
    other = {"some/model": "some/model", "a.csv": {"a.csv": "2"}}
    store.binding.check_contents(other)  # nothing was asked yet
    store.write_ask(ask(0))
    store.binding.check_contents({"some/model": "some/model", "a.csv": {"a.csv": "1"}, "b.csv": {"b.csv": "3"}})
    with pytest.raises(StoreError, match=r"a\.csv changed since this sweep began \(files or package versions\)"):
        store.binding.check_contents(other)


def test_fingerprints(store):
    data = {"train": {"name": "a.csv", "revision": None}, "split_seed": (0,)}
    assert store.binding.read_fingerprint(data) is None
    store.binding.write_fingerprint(data, "f1")
    assert store.binding.read_fingerprint(data | {"split_seed": [0]}) == "f1"
    [name] = store.storage.names("data")
    for text, message in (("{}", "no fingerprint but None"), ("[", "not JSON")):
        store.storage.write_text(f"data/{name}", text)
        with pytest.raises(RecordError, match=rf"data/{name}: {message}"):
            store.binding.read_fingerprint(data)


def test_tuples_count_as_the_lists_that_yaml_makes_of_them(store, sweep):
    store.create_or_open(sweep | {"baselines": ()})


def test_a_folder_with_other_files_is_refused(uri, sweep):
    store = Store(uri)
    store.storage.write_text("thesis.tex", "")
    with pytest.raises(StoreError, match=r"is not empty and no store \(it holds thesis\.tex\)"):
        store.create_or_open(sweep)


def test_storage_that_cannot_be_written_is_refused(tmp_path, sweep):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/sub: NotADirectoryError"):
        Store(str(tmp_path / "file/sub")).create_or_open(sweep)
    with pytest.raises(StoreError, match=r"/proc/sweep/sweep\.yaml: FileNotFoundError"):
        Store("/proc/sweep").create_or_open(sweep)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path, sweep):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="PermissionError"):
        Store(str(tmp_path)).create_or_open(sweep)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- a", "not a mapping but a list")])
def test_a_broken_sweep_file_is_named(store, sweep, text, message):
    store.storage.write_text("sweep.yaml", text)
    with pytest.raises(RecordError, match=rf"sweep\.yaml: {message}"):
        store.create_or_open(sweep)


def test_asks_come_back_in_order_and_are_never_edited(store):
    assert store.asks() == []
    for number in (10, 2):
        store.write_ask(ask(number))
    assert store.asks() == [ask(2), ask(10)]
    with pytest.raises(StoreError, match=r"000002\.json: ask 2 is already written"):
        store.write_ask(ask(2, kind="baseline"))
    store.write_ask(ask(2))  # again, since the answer to a write may be lost
    store.storage.write_text("asks/000003.json", "{}")
    with pytest.raises(RecordError, match=r"asks/000003\.json: not a valid Ask: number: Field required"):
        store.asks()


def test_configs(store):
    config = {"learning_rate": 1e-05, "betas": [0.9, 0.999], "name": "日本"}
    with pytest.raises(StoreError, match=r"a1/config\.json does not exist: trial a1 was never queued"):
        store.read_config("a1")
    store.write_config("a1", config)
    assert store.read_config("a1") == config
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_config("a1", {"x": float("nan")})


def test_records(store, record, candidate, failed):
    assert store.records() == []
    assert store.read_record("b2") is None
    store.write_config("c3", {})
    first, second = record("b2"), failed("a1", candidate())
    store.write_record(first, driver_epoch=1)
    store.write_record(second, driver_epoch=1)
    assert store.records() == [second, first]
    assert store.read_record("b2") == first
    again = record("b2", attempts=2)
    store.write_record(again, driver_epoch=1)
    assert store.read_record("b2") == again


def test_a_broken_record_is_named(store, record):
    store.write_record(record("a1"), driver_epoch=1)
    text = to_json(record("b2"))
    for broken, message in [(text[:100], "not JSON"), (text.replace('version": 2', 'version": 3'), "is newer than 2")]:
        store.storage.write_text("trials/b2/record.json", broken)
        with pytest.raises(RecordError, match=rf"trials/b2/record\.json: .*{message}"):
            store.records()
        with pytest.raises(RecordError, match=rf"trials/b2/record\.json: .*{message}"):
            store.read_record("b2")


def test_attempts_are_counted_per_driver(store):
    assert store.num_attempts("a1") == 0
    assert [store.begin_attempt("a1", driver_epoch=1) for _ in range(2)] == [1, 2]
    assert store.begin_attempt("a1", driver_epoch=2) == 1
    assert store.num_attempts("a1") == 3
    store.storage.write_text("trials/a1/attempts.json", '{"1": "two"}')
    with pytest.raises(RecordError, match=r"attempts\.json: not counts: "):
        store.begin_attempt("a1", 1)


def test_starts_are_counted_since_the_last_new_checkpoint_under_a_driver(store):
    assert [store.begin_attempt("a1", driver_epoch=1) for _ in range(3)] == [1, 2, 3]
    assert store.num_attempts_since_checkpoint("a1", 1) == 3
    store.note_checkpoint("a1", 1, attempt=2)
    assert store.num_attempts_since_checkpoint("a1", 1) == 1
    assert store.begin_attempt("a1", driver_epoch=1) == 4
    assert store.num_attempts_since_checkpoint("a1", 1) == 2
    assert store.begin_attempt("a1", driver_epoch=2) == 1
    assert store.num_attempts_since_checkpoint("a1", 2) == 1
    assert (store.num_attempts("a1"), store.num_attempts("a1", 1), store.num_attempts("a1", 3)) == (5, 4, 0)


def test_a_trial_has_failed_once_its_last_start_is_on_record(store, record):
    """Not by the record of an earlier driver, which stays until a trial that is retried ends."""
    assert not store.has_failed("a1", 1)
    store.begin_attempt("a1", 1)
    failed = record("a1", status="failed", candidates=(), failure=Failure(type="A", message="b", traceback=""))
    store.write_record(failed.model_copy(update={"attempts": 1}), driver_epoch=1)
    assert store.has_failed("a1", 1)
    assert not store.has_failed("a1", 2)
    store.begin_attempt("a1", 2)
    assert not store.has_failed("a1", 2)
    store.write_record(failed.model_copy(update={"attempts": 2}), driver_epoch=2)
    assert store.has_failed("a1", 2)


def test_stale_writers_are_refused(store, record):
    store.storage.write_text("driver.json", '{"epoch": 3}')
    with pytest.raises(StaleWriterError, match="trial a1: driver epoch 2 was replaced by 3; not written"):
        store.write_record(record("a1"), driver_epoch=2)
    assert store.begin_attempt("a1", 3) == 1
    store.check_writer("a1", 3, attempt=1)
    assert store.begin_attempt("a1", 3) == 2
    with pytest.raises(StaleWriterError, match="trial a1: attempt 1 was replaced by 2; not written"):
        store.write_record(record("a1"), driver_epoch=3, attempt=1)
    assert store.read_record("a1") is None
    store.write_record(record("a1"), driver_epoch=3, attempt=2)
    assert store.read_record("a1") == record("a1")


def test_logs(store):
    assert store.read_log("a1") == []
    store.append_log("a1", [{"step": 1, "loss": 0.5}, {"step": 2, "text": "a\nb\u2028"}])
    store.append_log("a1", [{"step": 3}])
    assert store.read_log("a1") == [{"step": 1, "loss": 0.5}, {"step": 2, "text": "a\nb\u2028"}, {"step": 3}]
    store.storage.append_text("trials/a1/log.jsonl", '{"step"')
    with pytest.raises(RecordError, match=r"log\.jsonl:4: not JSON"):
        store.read_log("a1")


def test_checkpoints(store, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/state.safetensors").write_bytes(b"1")
    assert store.checkpoints("a1") == []
    for step in ("000020", "000100"):
        store.upload_folder(tmp_path / "made", store.trial_path("a1", "checkpoints", step))
    assert store.checkpoints("a1") == ["000020", "000100"]
    assert store.has_folder("trials/a1/checkpoints/000020")
    store.download_folder("trials/a1/checkpoints/000100", tmp_path / "back")
    assert (tmp_path / "back/state.safetensors").read_bytes() == b"1"
    store.delete_folder("trials/a1/checkpoints")
    assert store.checkpoints("a1") == []


def test_base_and_exported(store):
    assert store.read_base() is None
    assert store.read_exported() is None
    figures = {"accuracy": Figure(value=0.25, stderr=0.01, num_examples=400)}
    store.write_base(BaseReference(figures=figures, head_params=3))
    assert store.read_base() == BaseReference(figures=figures, head_params=3)
    exported = ExportedAdapter(key="a1", step=3, test=figures, path="/x/recommended")
    store.write_exported(exported)
    assert store.read_exported() == exported


def test_what_a_resumed_trial_says_again_of_the_step_it_goes_on_from_counts_once(store: Store) -> None:
    cuts, rung = {"step": 2, "cuts": {"left_out": {}}}, {"step": 2, "rung": 1}
    store.append_log("a1", [{"step": 1}, {"step": 2}, cuts])
    store.append_log("a1", [{"resumed_at_step": 2}, cuts, rung])
    store.append_log("a1", [{"resumed_at_step": 2}, cuts, rung, {"step": 3}])
    entries = [line for line in store.read_log("a1") if "resumed_at_step" not in line]
    assert entries == [{"step": 1}, {"step": 2}, cuts, rung, {"step": 3}]
