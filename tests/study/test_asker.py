import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from prunedlora.config.identity import trial_key
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import Planner
from prunedlora.registry import names
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store
from prunedlora.study import ask_writer
from prunedlora.study.asked import is_trial
from prunedlora.study.asker import Asker
from prunedlora.study.handed_out import MOST_LOST
from prunedlora.study.importances import find_importances
from prunedlora.study.kept_study import KeptStudy
from prunedlora.study.rebuild import rebuild
from tests.inventions import invented_record, next_ask

ROOT = Path(__file__).parents[2]
Make = Callable[..., SweepConfig]


def finish(store: Store, ask: Ask) -> None:
    config = store.read_config(ask.key)
    # The fate of a trial is as random as its figures, and as reproducible.
    fate = {0: "failed", 1: "stopped"}.get(int(ask.key, 16) % 8, "completed")
    store.write_record(invented_record(ask.key, config, fate), driver_epoch=0)


def drive(config: SweepConfig, store: Store, most_events: int | None = None, planner: Planner | None = None) -> bool:
    """One slot, two trials out at once. Stops dead after so many events; returns whether it got through."""
    asker = Asker(config, store, num_slots=1)
    asker.planner = planner
    try:
        return _drive(asker, store, most_events)
    finally:
        asker.close()  # dead is dead: its thread must not write on


def _drive(asker: Asker, store: Store, most_events: int | None) -> bool:
    out: list[Ask] = []
    events = 0

    def killed() -> bool:
        nonlocal events
        events += 1
        return most_events is not None and events > most_events

    while True:
        while len(out) < 2:
            if killed():
                return False
            ask = next_ask(asker)
            if ask is None:
                break
            out.append(ask)
        if not out:
            assert asker.finished
            assert asker.num_left == 0
            return True
        if killed():
            return False
        finish(store, out[0])
        # The waiting trial may be over before the driver looks again.
        if len(out) > 1 and int(out[0].key, 16) % 2:
            finish(store, out[1])
        if killed():
            return False
        asker.end(out.pop(0).number)


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(name, marks=pytest.mark.slow if name in ("gp", "nsga2") else ()) for name in names("sampler")],
)
def test_killed_and_resumed_asks_what_uninterrupted_asks(sampler: str, make_sweep: Make, tmp_path: Path) -> None:
    # Enough trials for the sampler to leave its random start: TPE and GP after 10, NSGA-II after a population of 16.
    config = make_sweep(
        sampler=sampler, num_trials={"nsga2": 36, "gp": 13}.get(sampler, 18), baselines=[{"adapter.initial_rank": 2}]
    )
    whole = Store(str(tmp_path / "whole"))
    assert drive(config, whole)
    broken = Store(str(tmp_path / "broken"))
    runs = 0
    # 3 and 6: killed when a trial has ended (and the waiting one perhaps too) and the driver has not seen it.
    while not drive(config, broken, most_events=(3, 6, 4, 5)[runs % 4]):
        runs += 1
    assert runs > 3
    assert broken.asks() == whole.asks()
    assert sum(map(is_trial, whole.asks())) == config.num_trials + 1  # repeats count as none
    learned = whole.asks()[-1].params["optimizer.learning_rate"]
    others = Store(str(tmp_path / "others"))
    assert drive(make_sweep(sampler=sampler, num_trials=config.num_trials, seed=1), others)
    assert others.asks()[-1].params["optimizer.learning_rate"] != learned


@pytest.mark.slow
def test_asks_do_not_depend_on_the_hash_seed(make_sweep: Make, tmp_path: Path) -> None:
    runs = []
    for seed in ("1", "2"):
        folder = tmp_path / f"hash{seed}"
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from tests.inventions import sweep_tree\n"
            "from tests.study.test_asker import drive\n"
            "from prunedlora.config.load import parse_sweep\n"
            "from prunedlora.results.store import Store\n"
            "store = Store(sys.argv[1])\n"
            "assert drive(parse_sweep(sweep_tree(Path(sys.argv[1]), num_trials=13), 'test'), store)\n"
            "print([ask.params for ask in store.asks()])\n"
        )
        command = [sys.executable, "-c", code, str(folder)]
        env = os.environ | {"PYTHONHASHSEED": seed}
        runs.append(subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True))
    texts = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert texts[0] == texts[1]


def test_trials_may_be_added_between_runs(make_sweep: Make, tmp_path: Path) -> None:
    whole, grown = Store(str(tmp_path / "whole")), Store(str(tmp_path / "grown"))
    assert drive(make_sweep(num_trials=15), whole)
    assert drive(make_sweep(num_trials=6), grown)
    assert drive(make_sweep(num_trials=15), grown)
    assert grown.asks() == whole.asks()


def test_baselines_come_first_and_are_not_in_the_study(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    config = make_sweep(num_trials=2, baselines=[{"adapter.initial_rank": 2}, {"adapter.initial_rank": 3}])
    assert drive(config, store)
    assert [(ask.number, ask.kind) for ask in store.asks()] == [
        (0, "baseline"), (1, "baseline"), (2, "search"), (3, "search"),
    ]  # fmt: skip
    plain = Store(str(tmp_path / "plain"))
    assert drive(make_sweep(num_trials=2), plain)
    assert [ask.params for ask in plain.asks()] == [ask.params for ask in store.asks()[2:]]


def test_a_baseline_keeps_its_label(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    labelled = {"label": "small LoRA", "adapter.initial_rank": 2}
    assert drive(make_sweep(num_trials=0, space={}, baselines=[labelled, {"adapter.initial_rank": 3}]), store)
    assert [store.read_label(ask.key) for ask in store.asks()] == ["small LoRA", None]


def test_trials_in_flight_go_first(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    config = make_sweep()
    first = Asker(config, store, num_slots=2)
    asks = [next_ask(first) for _ in range(3)]
    assert asks[1] is not None
    finish(store, asks[1])
    second = Asker(config, store, num_slots=2)
    assert (second.num_kept, second.num_resumed, second.num_left) == (1, 2, 5)
    assert [second.next(), second.next()] == [asks[0], asks[2]]
    third = next_ask(second)
    assert third is not None
    assert third.number == 3


def test_a_paused_trial_stays_in_flight(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    asker = Asker(make_sweep(num_trials=1), store, num_slots=1)
    ask = asker.next()
    assert ask is not None
    asker.close()
    assert asker.end(ask.number) is None
    assert asker.next() is None
    assert Asker(make_sweep(num_trials=1), store, num_slots=1).next() == ask


def test_failed_trials_run_again_only_when_asked_to(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    config = make_sweep(num_trials=1)
    ask = Asker(config, store, num_slots=1).next()
    assert ask is not None
    store.write_record(invented_record(ask.key, store.read_config(ask.key), "failed"), driver_epoch=0)
    assert Asker(config, store, num_slots=1).next() is None
    retrying = Asker(config, store, num_slots=1, retry_failed=True)
    assert (retrying.num_kept, retrying.num_resumed) == (0, 1)
    assert retrying.next() == ask


def test_every_suggestion_is_written_before_it_is_handed_out(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    ask = Asker(make_sweep(), store, num_slots=1).next()
    assert store.asks() == [ask]
    assert ask is not None
    stored: dict[str, Any] = store.read_config(ask.key)
    assert stored["adapter"]["initial_rank"] == ask.params["adapter.initial_rank"]


def test_a_label_that_is_changed_or_added_reaches_trials_of_earlier_runs(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    ranks = [{"adapter.initial_rank": rank} for rank in (2, 4, 8)]
    first = Asker(make_sweep(baselines=[ranks[0] | {"label": "small"}, *ranks[1:]]), store)
    asks = [next_ask(first) for _ in range(3)]
    for ask in asks[:2]:
        assert ask is not None
        finish(store, ask)
    again = [ranks[0] | {"label": "two"}, ranks[1] | {"label": "four"}, ranks[2] | {"label": "eight"}]
    Asker(make_sweep(baselines=again), store).relabel(0)
    keys = [ask.key for ask in asks if ask is not None]
    assert [store.read_label(key) for key in keys] == ["two", "four", "eight"]  # the last is in flight
    records = [store.read_record(key) for key in keys]
    assert [record.label if record else None for record in records] == ["two", "four", None]


def test_a_moments_trouble_with_the_storage_ends_nothing(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    store = Store(str(tmp_path / "store"))
    asker = Asker(make_sweep(), store)
    ask = asker.next()
    assert ask is not None
    finish(store, ask)
    read, failures = store.read_record, iter([True, True])

    def flaky(key: str) -> TrialRecord | None:
        if next(failures, False):
            raise StoreError("503 slow down")
        return read(key)

    monkeypatch.setattr(store, "read_record", flaky)
    record = asker.end(ask.number)
    assert record is not None
    assert record.key == ask.key


def test_whoever_hands_out_trials_does_not_wait_for_the_sampler(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    propose = KeptStudy.propose

    def slow(study: KeptStudy, asks: list[Ask], *given: Any, **named: Any) -> Any:
        if len(asks) > 1:
            assert go_on.wait(10)
        return propose(study, asks, *given, **named)

    monkeypatch.setattr(KeptStudy, "propose", slow)
    asker = Asker(make_sweep(), Store(str(tmp_path / "s")), num_slots=2)
    assert next_ask(asker) is not None
    assert next_ask(asker) is not None  # the first waited for, the second begun as the first was handed out
    began = time.monotonic()
    assert asker.next() is None
    assert asker.asking
    assert not asker.finished
    assert time.monotonic() - began < 5
    go_on.set()
    assert next_ask(asker) is not None


def test_what_a_thread_met_is_raised_where_the_trial_was_wanted(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any, **named: Any) -> Any:
        raise RuntimeError("the sampler broke")

    monkeypatch.setattr(KeptStudy, "propose", fails)
    with pytest.raises(RuntimeError, match="the sampler broke"):
        Asker(make_sweep(), Store(str(tmp_path / "s"))).next()


def test_a_trial_without_a_record_is_handed_out_again_and_given_up_at_last(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot: what the study must know of it would be waited for without end."""
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    store = Store(str(tmp_path / "s"))
    config = make_sweep(num_trials=3)
    asker = Asker(config, store, num_slots=1)
    lost, second = next_ask(asker), next_ask(asker)
    assert lost is not None
    assert second is not None
    finish(store, second)
    asker.end(second.number)
    for _ in range(MOST_LOST - 1):
        assert asker.end(lost.number) is None
        assert not asker.finished
        assert next_ask(asker) == lost
        assert asker.next() is None
    assert asker.problems == []
    assert asker.end(lost.number) is None
    (problem,) = asker.problems
    assert problem.startswith(f"trial {lost.key} ended 3 times without a record in {store.uri}")
    assert problem.endswith("it was left to the next run of the same command")
    third = next_ask(asker)
    assert third is not None
    finish(store, third)
    asker.end(third.number)
    assert asker.finished
    assert Asker(config, store).next() == lost


def test_a_record_that_is_seen_late_is_taken(make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_writer, "RETRY_SECONDS", (0.0, 0.0))
    store = Store(str(tmp_path / "s"))
    asker = Asker(make_sweep(num_trials=1), store, num_slots=1)
    ask = next_ask(asker)
    assert ask is not None
    read, looks = store.read_record, iter([True] * 2)
    finish(store, ask)
    monkeypatch.setattr(store, "read_record", lambda key: None if next(looks, False) else read(key))
    assert asker.end(ask.number) is not None
    assert asker.finished

    asker = Asker(make_sweep(num_trials=2), store, num_slots=1)
    ask = next_ask(asker)
    assert ask is not None
    assert asker.end(ask.number) is None
    finish(store, ask)  # seen only now: it is not run again
    assert next_ask(asker) is None
    assert asker.finished


def test_slots_may_be_added_and_lost_while_trials_run(make_sweep: Make, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    asker = Asker(make_sweep(num_trials=12), store, num_slots=1)
    out = []
    for num_slots in (1, 3, 2, 1):
        asker.num_slots = num_slots
        while (ask := next_ask(asker)) is not None:
            out.append(ask)
        assert len(out) <= max(num_slots + 1, 4)
        for _ in range(2):
            finish(store, out[0])
            asker.end(out.pop(0).number)
    while not asker.finished:
        while (ask := next_ask(asker)) is not None:
            out.append(ask)
        finish(store, out[0])
        asker.end(out.pop(0).number)
    assert len(store.records()) == 12


def test_a_confirming_ask_is_a_trial_that_the_search_neither_counts_nor_learns_from(
    make_sweep: Make, tmp_path: Path
) -> None:
    """The same asks as without it, and as many; in flight it goes first like any other."""
    config = make_sweep(num_trials=14)
    plain = Store(str(tmp_path / "plain"))
    assert drive(config, plain)
    store = Store(str(tmp_path / "store"))
    assert drive(make_sweep(num_trials=12), store)
    first = store.asks()[0]
    again = store.read_config(first.key) | {"seed": 7}
    trial = TrialConfig.model_validate(again)
    store.write_config(trial_key(trial), again)
    confirm = Ask(number=12, key=trial_key(trial), kind="confirm", params={}, distributions={}, system_attrs={})
    store.write_ask(confirm)

    asker = Asker(config, store, num_slots=1)
    assert (asker.num_resumed, asker.num_left) == (1, 3)
    assert next_ask(asker) == confirm
    asker.close()
    assert drive(config, store)
    asks = store.asks()
    assert [ask.key for ask in asks if ask.kind == "search"] == [ask.key for ask in plain.asks()]
    assert store.read_record(confirm.key) is not None

    records = {ask.number: store.read_record(ask.key) for ask in asks}
    objectives = {"accuracy": "maximize", "adapter_params": "minimize"}
    study = rebuild(asks, records, objectives, optuna.samplers.RandomSampler(seed=0))  # type: ignore[arg-type]
    assert [trial.params for trial in study.trials] == [ask.params for ask in asks if ask.kind == "search"]
    assert find_importances(asks, store.records(), objectives).num_trials == sum(  # type: ignore[arg-type]
        trial.state.name == "COMPLETE" for trial in study.trials
    )
