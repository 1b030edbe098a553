"""A ladder as a whole trial: resume, branches, what a rung's candidate says, several workers, generation."""

import hashlib
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.analysis.find import find_candidate
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.data import BatchOrder
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import NonFiniteError, StepLog, Verdict, train
from prunedlora.training.model import draw_new_parameters
from prunedlora.training.state import TrialState, take_state
from prunedlora.trial.assemble import build_method, build_trial
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.candidates import ADAPTER
from prunedlora.trial.checkpoint_writer import CheckpointWriter
from prunedlora.trial.execute import execute_trial
from tests.ranks import run_ranks
from tests.tiny import decoder_tree, sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
EVENTS = {"removal": "cubic", "removal_end": 0.6, "every_steps": 1}
SHARED = {"basis": "svd", "allocation": "global_per_parameter", "min_rank": 0}
# Trunk of 6 steps, rungs of 4 and 4; with branches 4 + 2, 3 + 1, 3 + 1.
RESTART = {"rate": "restart"}
CONTINUE = {"rate": "continue"}
BRANCH = {"rate": "branch", "branch": 0.3}


class KilledError(BaseException):
    """What no `except Exception` sees."""


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


def new_store(tree: dict[str, Any], path: Path) -> Store:
    store = Store(str(path))
    store.create_or_open(tree)
    return store


def ladder_of(
    tree: dict[str, Any],
    schedule: dict[str, Any],
    pruning: dict[str, Any] | None = None,
    values: dict[str, Any] | None = None,
) -> TrialConfig:
    """Of 14 steps: a trunk and rungs at half and a fifth of the adapter."""
    whole = {"name": "ladder", "rungs": {"kept": [0.5, 0.2]}, "trunk": 0.43} | schedule
    changes = {
        "pruning": {"schedule": whole} | (pruning or {}),
        "evaluation.milestones": [],
        "training.num_steps": 14,
        "adapter.dropout": 0.1,
    }
    return trial_with(parse_sweep(tree, "test").trial, changes | (values or {}))


def run(
    trial: TrialConfig,
    store: Store,
    assets: AssetCache,
    progress: Callable[[int, int, float], Verdict] = lambda *_: Verdict.CONTINUE,
    report: Callable[[dict[str, Any]], Verdict] = lambda _: Verdict.CONTINUE,
    workers: Workers = ALONE,
    **more: Any,
) -> str:
    return execute_trial(
        trial, trial_key(trial), store=store, assets=assets, workers=workers, epoch=1, max_attempts=99,
        report=report, progress=progress, **more,
    )  # fmt: skip


def record_of(trial: TrialConfig, store: Store) -> TrialRecord:
    record = store.read_record(trial_key(trial))
    assert record is not None
    assert record.status == "completed", record.failure
    return record


def found(trial: TrialConfig, store: Store) -> list[dict[str, Any]]:
    """All that is on record of the candidates but the time they took."""
    return [c.model_dump(exclude={"train_seconds", "evaluation_seconds"}) for c in record_of(trial, store).candidates]


def lines(trial: TrialConfig, store: Store) -> list[dict[str, Any]]:
    """The log but for what says when it was gone on with, and where the time went."""
    kept = [line for line in store.read_log(trial_key(trial)) if not {"resumed_at_step", "time"} & line.keys()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in kept]


def once(*steps: int) -> Callable[[int, int, float], Verdict]:
    """Kills each time one of these steps is done for the first time."""
    left = list(steps)

    def progress(step: int, *_: float) -> Verdict:
        if step in left:
            left.remove(step)
            raise KilledError
        return Verdict.CONTINUE

    return progress


def until_it_is_through(go_on: Callable[[], str]) -> int:
    """How often it was killed on the way."""
    num_kills = 0
    while True:
        try:
            assert go_on() == "completed"
        except KilledError:
            num_kills += 1
        else:
            return num_kills


def test_a_ladder_that_fails_on_its_last_rung_leaves_the_others(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    """As the same training that does not fail makes them: on the front, recommended and found."""
    trial = ladder_of(tree, RESTART)

    def fail(step: int, *_: float) -> Verdict:
        if step == 12:
            raise NonFiniteError("loss is nan")
        return Verdict.CONTINUE

    store, whole = new_store(tree, tmp_path / "failed"), new_store(tree, tmp_path / "whole")
    assert run(trial, store, assets, fail) == "failed"
    run(trial, whole, assets)
    record = store.read_record(trial_key(trial))
    assert record is not None
    times = {"train_seconds", "evaluation_seconds"}
    assert [one.model_dump(exclude=times) for one in record.candidates] == [
        one.model_dump(exclude=times) for one in record_of(trial, whole).candidates[:2]
    ]
    summary = summarize(store)
    assert [(point.step, point.candidate.rung) for point in summary.points] == [(6, 0), (10, 1)]
    assert summary.recommended is not None
    assert find_candidate(store, "recommended") == (record, summary.recommended.candidate)
    adapter = summary.adapter_uri(summary.recommended)
    assert adapter is not None
    assert Path(adapter, "adapter_model.safetensors").is_file()


# --- resume


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "restart, svd": (RESTART, SHARED),
    "restart, raw at once": (RESTART, {}),
    "continue, raw in events": (CONTINUE | EVENTS, {"recovery_strength": 1.0, "allocation": "global"}),
    "branch, svd": (BRANCH, SHARED),
    "branch, raw in events": (BRANCH | EVENTS, {"recovery_strength": 1.0}),
    "branch, whitened": (BRANCH, {"basis": "whitened", "ema_decay": 0.5}),
}


PLAIN = "restart, svd"


@pytest.mark.parametrize(
    ("form", "every"),
    [
        pytest.param(form, every, marks=[] if form == PLAIN else pytest.mark.slow)
        for form, every in zip(FORMS, cycle((None, 1)), strict=False)
    ],
)
def test_killed_at_every_step_equals_uninterrupted_bit_for_bit(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, form: str, every: int | None
) -> None:
    """With a checkpoint at every step that may have one, and with those alone that a ladder leaves: within trunk and
    rungs, within a branch and where it begins, right after a removal."""
    trial = ladder_of(tree, *FORMS[form])
    whole, store = new_store(tree, tmp_path / "whole"), new_store(tree, tmp_path / "store")
    run(trial, whole, assets)
    log = lines(trial, whole)
    assert [line["step"] for line in log if "loss" in line] == list(range(1, 15))
    kills = once(*range(1, 15))
    assert until_it_is_through(lambda: run(trial, store, assets, kills, checkpoint_every_steps=every)) == 14
    assert found(trial, store) == found(trial, whole)
    assert lines(trial, store) == log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "pruning"),
    [pytest.param(RESTART, SHARED, id="svd"), pytest.param(BRANCH | EVENTS, {}, id="branch")],
)
def test_killed_and_paused_between_candidate_and_removal(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, schedule: dict[str, Any], pruning: dict[str, Any]
) -> None:
    """Killed right after each candidate, paused by the verdict on it; and paused from outside, within branches too."""
    trial = ladder_of(tree, schedule, pruning)
    whole = new_store(tree, tmp_path / "whole")
    run(trial, whole, assets)
    left = [6, 10, 14]

    def kill(candidate: dict[str, Any]) -> Verdict:
        if candidate["step"] in left:
            left.remove(candidate["step"])
            raise KilledError
        return Verdict.PAUSE

    store, statuses = new_store(tree, tmp_path / "store"), list[str]()
    while "completed" not in statuses:
        try:
            statuses.append(run(trial, store, assets, report=kill))
        except KilledError:
            statuses.append("killed")
    assert statuses == ["killed", "paused", "killed", "paused", "killed", "completed"]
    paused, asked = new_store(tree, tmp_path / "paused"), [3, 4, 5, 6, 9]

    def pause(step: int, *_: float) -> Verdict:
        if step not in asked:
            return Verdict.CONTINUE
        asked.remove(step)
        return Verdict.PAUSE

    while run(trial, paused, assets, pause) == "paused":
        pass
    assert asked == []
    assert found(trial, store) == found(trial, paused) == found(trial, whole)
    assert lines(trial, store) == lines(trial, paused) == lines(trial, whole)


def test_checkpoints_lie_before_a_branch_and_after_the_removal_that_follows_it(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None within a branch, neither by step nor by time nor on a pause."""
    trial, store = ladder_of(tree, BRANCH, SHARED), new_store(tree, tmp_path / "store")
    saved, save = list[str](), CheckpointWriter.save
    monkeypatch.setattr(CheckpointWriter, "save", lambda self, taken: (saved.append(taken.name), save(self, taken)))
    assert run(trial, store, assets, lambda step, *_: Verdict.PAUSE if step == 5 else Verdict.CONTINUE) == "paused"
    assert saved == store.checkpoints(trial_key(trial)) == ["00000004-000"]
    saved.clear()
    run(trial, store, assets, checkpoint_every_steps=1, checkpoint_every_seconds=1e-9)
    steps = [(int(step), int(num)) for step, _, num in (name.partition("-") for name in saved)]
    # The last one before the last evaluation, at the end of its branch: there is no line to come back to.
    assert steps == [(6, 1), (7, 1), (8, 1), (9, 1), (10, 2), (11, 2), (12, 2), (13, 2), (14, 2)]


# --- what a branch leaves behind


def lined(
    trial: TrialConfig, assets: AssetCache, monkeypatch: pytest.MonkeyPatch, *, skips: bool
) -> tuple[dict[int, StepLog], dict[int, TrialState], dict[int, list[Any]], Any]:
    """The loop on a ladder, its branches skipped where asked: logs, states where a step ends, and examples by step."""
    ready = assets.get(trial)
    method = build_method(trial, 14, ready.skeleton.reach.modules)
    model = method.attach(ready.base.model, ADAPTER)
    draw_new_parameters(model, ready.base, trial.seed)
    live = build_trial(trial, ready, model, method, ALONE)
    logs, states, examples = dict[int, StepLog](), dict[int, TrialState](), dict[int, list[Any]]()
    batches = BatchOrder.micro_batches

    def recorded(order: BatchOrder, position: int, *where: Any, **how: Any) -> Any:
        passes = list(batches(order, position, *where, **how))
        examples[live.step] = [features.input_ids for batch in passes for features in batch]
        return iter(passes)

    def on_step(log: StepLog) -> Verdict:
        logs[live.step], states[live.step] = log, take_state(live)
        rung = live.course.branch_from(live.step)
        if skips and rung is not None:
            live.step = rung.end
        return Verdict.CONTINUE

    with monkeypatch.context() as patch:
        patch.setattr(BatchOrder, "micro_batches", recorded)
        train(
            live, ALONE, checkpoint_every_steps=None, on_step=on_step, on_rung=lambda _: None,
            on_milestone=lambda: Verdict.CONTINUE, save_checkpoint=lambda: None,
        )  # fmt: skip
    method.close()
    method.detach(model)
    return logs, states, examples, live


@pytest.mark.parametrize(
    ("removal", "pruning"),
    [({}, SHARED), (EVENTS, {"recovery_strength": 1.0}), ({}, {"basis": "whitened", "ema_decay": 0.0})],
    ids=["svd", "raw in events", "whitened, by the last step of the line alone"],
)
def test_a_branch_leaves_no_trace_and_sees_what_the_line_sees_next(
    tree: dict[str, Any],
    assets: AssetCache,
    monkeypatch: pytest.MonkeyPatch,
    removal: dict[str, Any],
    pruning: dict[str, Any],
) -> None:
    trial = ladder_of(tree, BRANCH | removal, pruning)
    logs, states, examples, live = lined(trial, assets, monkeypatch, skips=False)
    line, line_states, line_examples, skipped = lined(trial, assets, monkeypatch, skips=True)
    branches = [5, 6, 10, 14]
    assert sorted(logs) == list(range(1, 15))
    assert sorted(line) == [step for step in logs if step not in branches]
    for step, log in line.items():
        assert log == logs[step]
        mine, other = states[step].tensors, line_states[step].tensors
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[name], other[name]) for name in mine), step
    # By steps done before: the branch's 4 and 5 see what the line's 6 and 7 see, 9 what 10 sees.
    assert [examples[4], examples[5], examples[9]] == [examples[6], examples[7], examples[10]]
    assert examples[4] != examples[5]
    assert line_examples == {step: examples[step] for step in line_examples}
    assert live.tokens_seen > skipped.tokens_seen
    assert live.positions_seen == sum(log.positions for log in logs.values()) > skipped.positions_seen
    assert not all(torch.equal(states[4].tensors[name], states[6].tensors[name]) for name in states[4].tensors)


def test_dropout_follows_the_position(
    tree: dict[str, Any], assets: AssetCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is removed at the border, a branch's first step and the line's next are one and the same."""
    logs, *_ = lined(ladder_of(tree, BRANCH | EVENTS), assets, monkeypatch, skips=False)
    assert logs[5].loss == logs[7].loss
    assert logs[6].loss != logs[8].loss


def test_candidates_say_where_they_stand_and_what_the_training_had_cost(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    trial, store = ladder_of(tree, BRANCH, SHARED), new_store(tree, tmp_path / "store")
    told, reported = list[tuple[float, ...]](), list[dict[str, Any]]()
    run(
        trial,
        store,
        assets,
        lambda *at: (told.append(at), Verdict.CONTINUE)[1],
        lambda candidate: (reported.append(candidate), Verdict.CONTINUE)[1],
    )
    candidates = record_of(trial, store).candidates
    assert [(c.step, c.rung, c.branch_steps) for c in candidates] == [(6, 0, 2), (10, 1, 1), (14, 2, 1)]
    assert [c.examples_seen for c in candidates] == [48, 80, 112]
    assert [c.model_dump(mode="json") for c in candidates] == reported
    assert [at[:2] for at in told] == [(step, 14) for step in range(1, 15)]
    assert told[-1][2] == record_of(trial, store).tokens_per_second
    assert candidates[-1].tokens_seen == sum(line["tokens"] for line in lines(trial, store) if "loss" in line)
    assert candidates[0].train_seconds < candidates[1].train_seconds < candidates[2].train_seconds
    start = candidates[0].adapter_params
    assert [c.adapter_params <= share * start for c, share in zip(candidates[1:], (0.5, 0.2), strict=True)] == [
        True
    ] * 2
    log = lines(trial, store)
    assert [line["rung"] for line in log if "loss" in line] == [0] * 6 + [1] * 4 + [2] * 4
    begun = [line for line in log if not {"loss", "candidate"} & line.keys()]
    assert [(line["step"], line["rung"]) for line in begun] == [(6, 1), (10, 2)]
    assert [line["ranks"] for line in begun] == [c.ranks for c in candidates[1:]]


# --- against what there was before


@pytest.mark.parametrize(
    "pruning",
    [
        {"recovery_strength": 1.0, "rate_growth": 0.5},
        {"basis": "svd", "allocation": "global_per_parameter"},
        {"basis": "whitened", "allocation": "global"},
    ],
    ids=["raw", "svd", "whitened"],
)
def test_one_rung_with_its_rate_continued_is_a_schedule_bit_for_bit(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, pruning: dict[str, Any]
) -> None:
    """The same events, from a quarter to three quarters of twelve steps, to a mean rank of three."""
    schedule = {"rungs": {"mean_rank": [3]}, "trunk": 0.25, "rate": "continue", "optimizer_state": "kept"}
    events = {"removal": "cubic", "removal_end": 0.66, "every_steps": 2}
    values = {"training.num_steps": 12}
    ladder = ladder_of(tree, schedule | events, pruning, values)
    plain = {"target_rank": 3, "schedule": {"name": "cubic", "begin": 0.25, "end": 0.75, "every_steps": 2}}
    today = trial_with(ladder, {"pruning": plain | pruning})
    store = new_store(tree, tmp_path / "store")
    for trial in (ladder, today):
        run(trial, store, assets)
    (trunk, last), (expected,) = record_of(ladder, store).candidates, record_of(today, store).candidates
    exempt = {"train_seconds": 0.0, "evaluation_seconds": None, "rung": None}
    assert last.model_copy(update=exempt) == expected.model_copy(update=exempt)
    assert (trunk.step, set(trunk.ranks.values()), last.rung) == (3, {6}, 1)
    logs = [
        [line for line in lines(trial, store) if line.pop("rung", 0) is not None and "candidate" not in line]
        for trial in (ladder, today)
    ]
    assert logs[0] == logs[1]
    assert sum("ranks" in line for line in logs[0]) > 1


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_a_ladder_leaves_the_base_and_hears_nothing_of_what_ran_before(tree: dict[str, Any], tmp_path: Path) -> None:
    trial, shared = ladder_of(tree, BRANCH, SHARED), AssetCache(CPU)
    base = shared.get(trial).base.model
    before = checksum(base)
    first, second = (new_store(tree, tmp_path / name) for name in ("first", "second"))
    run(trial, first, shared)
    assert checksum(base) == before
    run(ladder_of(tree, CONTINUE | EVENTS), second, shared)
    run(trial, second, shared)
    assert shared.get(trial).base.model is base
    assert found(trial, first) == found(trial, second)
    assert checksum(base) == before


# --- tasks, types, workers


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_generation_on_a_ladder(tmp_path: Path, dtype: str) -> None:
    tree = decoder_tree(tmp_path, "unused", metric="exact_match", max_new_tokens=4)
    values = {"model.dtype": dtype, "adapter.dropout": 0.0}
    trial = ladder_of(tree, BRANCH, {"basis": "whitened", "allocation": "global", "min_rank": 0}, values)
    stores = [new_store(tree, tmp_path / name) for name in ("whole", "killed")]
    run(trial, stores[0], AssetCache(CPU))
    kills = once(5, 8, 10, 12)
    assert until_it_is_through(lambda: run(trial, stores[1], AssetCache(CPU), kills)) == 4
    assert found(trial, stores[0]) == found(trial, stores[1])
    candidates = record_of(trial, stores[0]).candidates
    assert [sum(c.ranks.values()) / len(c.ranks) for c in candidates] == pytest.approx([4, 2, 0.8], abs=0.1)
    assert all({"loss", "exact_match"} <= c.figures.keys() for c in candidates)


def _worker(rank: int, uri: str, config: dict[str, Any], rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    run(TrialConfig.model_validate(config), Store(uri), AssetCache(CPU), workers=Workers(rank, 2, CPU))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "pruning"),
    [(BRANCH, {"allocation": "global"}), (RESTART, SHARED)],
    ids=["branch, raw at once", "restart, svd"],
)
def test_two_workers_go_down_the_ladder_as_one_does(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, schedule: dict[str, Any], pruning: dict[str, Any]
) -> None:
    trial = ladder_of(tree, schedule, pruning, {"adapter.dropout": 0.0})
    one, two = (new_store(tree, tmp_path / name) for name in ("one", "two"))
    run(trial, one, assets)
    arguments = (two.uri, trial.model_dump(), str(tmp_path / "rendezvous"))
    assert run_ranks(_worker, 2, *arguments) == [0, 0]
    left, right = (record_of(trial, store).candidates for store in (one, two))

    def choices(candidates: tuple[Candidate, ...]) -> list[Any]:
        return [(c.step, c.rung, c.branch_steps, c.ranks, c.tokens_seen) for c in candidates]

    assert choices(left) == choices(right)
    for mine, other in zip(left, right, strict=True):
        assert mine.figures["loss"].value == pytest.approx(other.figures["loss"].value, abs=1e-4)
