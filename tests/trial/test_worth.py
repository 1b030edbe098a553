"""Which candidates answers are generated for: the decision on losses made up, and a trial that obeys it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.record import Candidate, ExampleOutcomes, Figure, TrialRecord
from prunedlora.results.store import Store
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.outcomes import Outcomes, figures
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial import rivals, worth
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from prunedlora.trial.rivals import Rival
from prunedlora.trial.worth import MOST_READ, difference, is_judged, judged, sizes_of, worth_reading
from tests.inventions import invented_record
from tests.ranks import run_ranks
from tests.tiny import decoder_tree, sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
ASSETS = AssetCache(CPU)
ANSWERS = {
    "evaluation.metric": "exact_match",
    "evaluation.max_new_tokens": 3,
    "evaluation.generate": "may_matter",
    "evaluation.milestones": [0.25, 0.5],
}


def losses(*sums: float, targets: tuple[int, ...] | None = None) -> ExampleOutcomes:
    return ExampleOutcomes(loss_sums=sums, num_targets=targets or (1,) * len(sums), scores={})


# --- the decision


def test_the_difference_is_that_of_the_losses_and_its_error_that_of_the_pairs() -> None:
    mine, other = losses(4.0, 2.0, 9.0, targets=(2, 1, 3)), losses(3.0, 1.0, 7.0, targets=(2, 1, 3))
    found = difference(mine, other)
    assert found is not None
    one, two = (figures(Outcomes(list(o.loss_sums), list(o.num_targets), {}))["loss"] for o in (mine, other))
    assert found.value == pytest.approx(one.value - two.value)
    apart = figures(Outcomes([1.0, 1.0, 2.0], [2, 1, 3], {}))["loss"]
    assert found.stderr == pytest.approx(apart.stderr)
    assert one.stderr is not None
    assert found.stderr < one.stderr  # hard examples are hard for both


@pytest.mark.parametrize(
    ("mine", "other", "is_clear"),
    [
        (losses(2.0, 2.1, 1.9, 2.0), losses(1.0, 1.0, 1.0, 1.0), True),
        (losses(2.0, 9.0, 0.1, 0.2), losses(1.0, 1.0, 1.0, 1.0), False),
        (losses(1.0, 1.0), losses(1.0, 1.0), False),  # equal: neither beats the other
        (losses(1.0, 1.1, 0.9, 1.0), losses(2.0, 2.0, 2.0, 2.0), False),  # it is better
    ],
)
def test_a_difference_is_clear_beyond_three_errors(mine: Any, other: Any, is_clear: bool) -> None:
    found = difference(mine, other)
    assert found is not None
    assert found.is_clear is is_clear


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (losses(2.0), losses(1.0)),
        (losses(2.0, 2.0), losses(1.0, 1.0, 1.0)),
        (losses(2.0, 2.0, targets=(1, 2)), losses(1.0, 1.0, targets=(2, 1))),
    ],
)
def test_other_examples_or_other_targets_are_no_pairs(mine: Any, other: Any) -> None:
    assert difference(mine, other) is None


@pytest.fixture
def candidate() -> Candidate:
    (made,) = invented_record("a", sweep_tree_of_inventions()["trial"]).candidates
    return made.model_copy(
        update={
            "figures": {"loss": Figure(value=2.0, stderr=0.1, num_examples=4)},
            "adapter_params": 100,
            "adapter_bytes": 400,
            "file_bytes": 500,
            "max_rank": 4,
            "served_slot": 8,
        }
    )


def sweep_tree_of_inventions() -> dict[str, Any]:
    from tests.inventions import sweep_tree

    return sweep_tree(Path("unused"))


def test_a_rival_is_no_larger_on_any_axis_and_of_lower_loss(candidate: Candidate) -> None:
    def rival(name: str, loss: float = 1.0, num_examples: int = 4, **sizes: Any) -> Rival:
        figure = Figure(value=loss, num_examples=num_examples)
        return Rival.of(
            name, changed := candidate.model_copy(update={"figures": {"loss": figure}, **sizes}), sizes_of(changed)
        )

    large = [rival(f"x{i}", **{name: 501}) for i, name in enumerate(("adapter_params", "file_bytes", "max_rank"))]
    others = [rival("x3", loss=2.0), rival("x4", num_examples=5), rival("x5", served_slot=None)]
    equal, smaller = rival("b"), rival("a", 0.5, adapter_params=1, max_rank=0, served_slot=1)
    assert worth_reading(candidate, [*large, *others, equal, smaller]) == [smaller, equal]
    many = [rival(f"m{i}", 0.5 + i / 100) for i in range(9)]
    assert worth_reading(candidate, many[::-1]) == many[:MOST_READ]
    unserved = candidate.model_copy(update={"served_slot": None})
    assert worth_reading(unserved, [equal]) == [equal]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return decoder_tree(folder, folder / "unused")


def trial_of(tree: dict[str, Any], **values: Any) -> TrialConfig:
    changed = ANSWERS | {path.replace("__", "."): value for path, value in values.items()}
    return trial_with(parse_sweep(tree, "test").trial, changed)


LADDER = {
    "pruning": {
        "schedule": {"name": "ladder", "rungs": {"parameters": [600, 200]}},
        "allocation": "global_per_parameter",
        "min_rank": 0,
    }
}


def test_who_is_judged(tree: dict[str, Any]) -> None:
    milestones, ladder = trial_of(tree), trial_of(tree, evaluation__milestones=[], evaluation__generate=None, **LADDER)
    assert not is_judged(milestones, is_end=True, is_cut=False)
    assert is_judged(milestones, is_end=False, is_cut=False)
    assert is_judged(milestones, is_end=True, is_cut=True)
    assert ladder.generate == "may_matter"
    assert is_judged(ladder, is_end=True, is_cut=False)
    # Nobody who names nothing loses a figure: what is no ladder, and method svd with its cuts, is as it was.
    svd = {"adapter__method": "svd", "pruning": None, "svd": {"ranks": [1]}}
    for config in (trial_of(tree, evaluation__generate=None), trial_of(tree, evaluation__generate=None, **svd)):
        assert config.generate == "all"
        assert not is_judged(config, is_end=False, is_cut=True)
    # Of what it began with answers are always had: it is what all others are compared with.
    assert not is_judged(ladder, is_end=False, is_cut=False, is_original=True)
    full = trial_of(tree, adapter=None, pruning=None, full={})
    assert not is_judged(full, is_end=False, is_cut=False)


def test_a_metric_without_answers_has_none_to_spare(tree: dict[str, Any], tmp_path: Path) -> None:
    assert parse_sweep(tree, "test").trial.generate is None
    with pytest.raises(ValueError, match=r"evaluation.generate is without effect for metric 'loss'"):
        trial_with(parse_sweep(tree, "test").trial, {"evaluation.generate": "all"})
    with pytest.raises(ValueError, match=r"evaluation.generate is without effect for metric 'accuracy'"):
        trial_with(parse_sweep(sweep_tree(tmp_path, "s"), "test").trial, {"evaluation.generate": "may_matter"})


# --- what is on record


def new_store(tree: dict[str, Any], folder: Path) -> Store:
    store = Store(str(folder))
    store.create_or_open(tree)
    return store


def put_rival(store: Store, trial: TrialConfig, key: str = "rival", loss: float = 1e-3, **changes: Any) -> None:
    """A completed trial of the same data whose adapter is empty and nearly never wrong."""
    assets = ASSETS.get(trial)
    targets = tuple(len(features.target_ids) for features in assets.validation)
    record = invented_record(key, trial.model_dump(mode="json"))
    sizes = {"adapter_params": 0, "adapter_bytes": 0, "file_bytes": 0, "max_rank": 0, "served_slot": 1}
    figure = Figure(value=loss, stderr=loss, num_examples=len(targets))
    (made,) = record.candidates
    made = made.model_copy(update={**sizes, "served_slot_bytes": 0, "figures": {"loss": figure}})
    record = TrialRecord.model_validate({**dict(record), "candidates": (made,), **changes})
    store.write_config(key, record.config)
    store.write_record(record, 1)
    sums = tuple(loss * (count + i % 2 / 10) for i, count in enumerate(targets))
    store.write_outcomes(key, made.name, ExampleOutcomes(loss_sums=sums, num_targets=targets, scores={}))


def test_records_are_read_once(
    tree: dict[str, Any], tmp_path: Path, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trial = new_store(tree, tmp_path), trial_of(tree)
    put_rival(store, trial)
    read: list[str] = []
    records_of = store.records_of
    monkeypatch.setattr(store, "records_of", lambda keys: (read.extend(keys), records_of(keys))[1])
    targets = tuple(len(features.target_ids) for features in ASSETS.get(trial).validation)
    bad = losses(*(3.0 * count for count in targets), targets=targets)
    candidate = candidate.model_copy(
        update={"figures": {"loss": Figure(value=3.0, num_examples=len(targets))}, "served_slot_bytes": 10}
    )

    def beaten_by(key: str, config: TrialConfig = trial) -> str | None:
        found = judged(candidate, bad, config, key, [], store)
        return None if found is None else found.beaten_by

    step = store.records()[0].candidates[0].name
    read.clear()
    assert beaten_by("a") == beaten_by("a") == beaten_by("b") == f"rival@{step}"
    assert read == ["rival"]
    assert beaten_by("rival") is None  # it is no rival of itself
    other = trial_with(trial, {"data.split_seed": 5})
    assert beaten_by("a", other) is None  # other examples
    put_rival(store, trial, "better", loss=1e-4)
    assert beaten_by("a") == f"better@{step}"
    assert read == ["rival", "better"]


def test_what_is_known_is_gathered_once_whatever_the_number_of_records(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known(set[str]):
        num_copies = 0

        def __or__(self, other: Any) -> Any:
            Known.num_copies += 1
            return set.__or__(self, other)

        __ror__ = __or__

    store, trial = new_store(tree, tmp_path), trial_of(tree)
    keys = [f"{n:016x}" for n in range(50)]
    monkeypatch.setattr(Store, "trial_keys", lambda _: keys)
    rivals._ON_RECORD[store] = rivals._OnRecord(settled=Known(keys), asking="mine")
    assert rivals.rivals_of(store, trial, "mine", sizes_of) == []
    assert Known.num_copies <= 1


def test_a_failed_trial_is_looked_at_again_by_the_next(
    tree: dict[str, Any], tmp_path: Path, candidate: Candidate
) -> None:
    store, trial = new_store(tree, tmp_path), trial_of(tree)
    failure = {"type": "E", "message": "m", "traceback": ""}
    put_rival(store, trial, loss=2.0, status="failed", failure=failure)
    for key in ("a", "b"):  # what it left before counts, once
        assert [(rival.key, rival.loss) for rival in worth.rivals_of(store, trial, key, sizes_of)] == [("rival", 2.0)]
    put_rival(store, trial, loss=1.0)  # tried again
    assert [(rival.key, rival.loss) for rival in worth.rivals_of(store, trial, "c", sizes_of)] == [("rival", 1.0)]
    assert worth.rivals_of(store, trial, "rival", sizes_of) == []


# --- a trial


def run(trial: TrialConfig, store: Store, workers: Workers = ALONE, **more: Any) -> str:
    going: dict[str, Callable[..., Verdict]] = {
        "report": lambda *_: Verdict.CONTINUE,
        "progress": lambda *_: Verdict.CONTINUE,
    }
    return execute_trial(
        trial, trial_key(trial), store=store, assets=ASSETS, workers=workers, epoch=1, max_attempts=2,
        **{**going, **more},
    )  # fmt: skip


def record_of(trial: TrialConfig, store: Store) -> TrialRecord:
    record = store.read_record(trial_key(trial))
    assert record is not None
    return record


def summary(record: TrialRecord) -> list[tuple[str, dict[str, Figure], str | None, dict[str, int]]]:
    return [
        (each.name, each.figures, each.judged_by_loss and each.judged_by_loss.beaten_by, each.ranks)
        for each in record.candidates
    ]


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many examples were answered, batch by batch."""
    counts: list[int] = []
    generate = Generation.generate

    def counted(self: Generation, model: Any, features: Any, device: Any) -> list[str]:
        counts.append(len(features))
        return generate(self, model, features, device)

    monkeypatch.setattr(Generation, "generate", counted)
    return counts


def test_answers_are_generated_for_what_may_be_on_the_front(
    tree: dict[str, Any], tmp_path: Path, generated: list[int]
) -> None:
    trial = trial_of(tree)
    alone, beaten = new_store(tree, tmp_path / "alone"), new_store(tree, tmp_path / "beaten")
    every = trial_of(tree, evaluation__generate="all")
    assert run(every, alone) == "completed"
    assert sum(generated) == 3 * 8
    assert run(trial, new_store(tree, tmp_path / "first")) == "completed"
    first = record_of(trial, Store(str(tmp_path / "first")))
    assert summary(first) == summary(record_of(every, alone))  # nothing on record beats it: figures as with all

    put_rival(beaten, trial)
    generated.clear()
    assert run(trial, beaten) == "completed"
    record = record_of(trial, beaten)
    assert sum(generated) == 8  # of the end, which is what the trial is for
    for mine, whole in zip(record.candidates[:-1], first.candidates, strict=False):
        assert set(mine.figures) == {"loss"}
        assert mine.figures["loss"] == whole.figures["loss"]
        assert mine.judged_by_loss is not None
        assert mine.judged_by_loss.words == "judged by loss: beaten by rival@12 on 8 examples"
        assert mine.judged_by_loss.difference == pytest.approx(mine.figures["loss"].value - 1e-3, rel=0.1)
        assert mine.adapter_path is not None
        outcomes = beaten.read_outcomes(record.key, mine.name)
        assert outcomes is not None
        assert outcomes.scores == {}
    assert summary(record)[-1] == summary(first)[-1]
    assert [each.file_sha256 for each in record.candidates] == [each.file_sha256 for each in first.candidates]


def test_a_ladders_rungs_are_judged_to_the_last(tree: dict[str, Any], tmp_path: Path, generated: list[int]) -> None:
    store = new_store(tree, tmp_path)
    trial = trial_of(tree, evaluation__milestones=[], evaluation__generate=None, **LADDER)
    put_rival(store, trial)
    assert run(trial, store) == "completed"
    record = record_of(trial, store)
    assert [each.rung for each in record.candidates] == [0, 1, 2]
    assert all(each.judged_by_loss is not None for each in record.candidates)
    assert generated == []


def test_killed_and_resumed_equals_uninterrupted(tree: dict[str, Any], tmp_path: Path, generated: list[int]) -> None:
    trial = trial_of(tree)
    whole, paused = new_store(tree, tmp_path / "whole"), new_store(tree, tmp_path / "paused")
    for store in (whole, paused):
        put_rival(store, trial)
    run(trial, whole)
    generated.clear()
    stop_at = [4, 7]
    while stop_at:
        at = stop_at.pop(0)
        assert (
            run(trial, paused, progress=lambda n, *_, at=at: Verdict.PAUSE if n == at else Verdict.CONTINUE) == "paused"
        )
    assert run(trial, paused) == "completed"
    assert sum(generated) == 8
    assert summary(record_of(trial, paused)) == summary(record_of(trial, whole))
    record = record_of(trial, paused)
    assert record.evaluation_seconds == pytest.approx(sum(each.evaluation_seconds or 0.0 for each in record.candidates))


def _worker(rank: int, uri: str, config: dict[str, Any], rendezvous: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    run(TrialConfig.model_validate(config), Store(uri), workers=Workers(rank, 2, CPU))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers_follow_the_first(tree: dict[str, Any], tmp_path: Path) -> None:
    trial, store = trial_of(tree), new_store(tree, tmp_path / "store")
    put_rival(store, trial)
    arguments = (store.uri, trial.model_dump(), str(tmp_path / "rendezvous"))
    assert run_ranks(_worker, 2, *arguments) == [0, 0]
    judgements = [each.judged_by_loss for each in record_of(trial, store).candidates]
    assert [judgement is None for judgement in judgements] == [False, False, True]
