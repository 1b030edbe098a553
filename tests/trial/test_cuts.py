"""Free cuts in whole trials on the tiny model: the training goes on as if nothing had been cut, sizes keep to budgets,
the screening passes over what it must, a kill repeats only what is missing, workers agree."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial import execute as execute_module
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.cut_sizes import planned_cuts
from prunedlora.trial.execute import execute_trial
from tests.ranks import run_ranks
from tests.tiny import sweep_tree

CPU = torch.device("cpu")
ALONE = Workers(0, 1, CPU)
LADDER = {
    "pruning.schedule": {"name": "ladder", "rungs": {"mean_rank": [3, 1]}, "trunk": 0.4},
    "pruning.target_sparsity": None,
    "pruning.allocation": "global_per_parameter",
    "evaluation.milestones": [],
}
CUTS = {
    "sizes": {"mean_rank": [2, 0.5]},
    "bases": ["svd", "whitened"],
    "screen_examples": None,
    "calibration_examples": 12,
}
LORA = {"adapter.method": "lora", "pruning": None, "evaluation.milestones": []}


class KilledError(BaseException):
    """What no `except Exception` sees."""


@pytest.fixture(scope="module")
def assets() -> AssetCache:
    return AssetCache(CPU)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return sweep_tree(tmp_path_factory.mktemp("tiny"), "unused")


def trial_of(tree: dict[str, Any], values: dict[str, Any]) -> TrialConfig:
    return trial_with(parse_sweep(tree, "test").trial, values)


def run(
    trial: TrialConfig,
    tree: dict[str, Any],
    path: Path,
    assets: AssetCache,
    workers: Workers = ALONE,
) -> TrialRecord:
    store = Store(str(path))
    if workers.rank == 0:
        store.create_or_open(tree)
    key = trial_key(trial)
    if workers.num_workers > 1:
        workers.gather(None)
    status = execute_trial(
        trial, key, store=store, assets=assets, workers=workers, epoch=1, max_attempts=9,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    assert status == "completed"
    if workers.num_workers > 1:
        workers.gather(None)  # the first rank alone writes the record, after the others have gone on
    record = store.read_record(key)
    assert record is not None
    return record


def weights_of(path: Path, record: TrialRecord, candidate: Candidate) -> dict[str, Any]:
    folder = path / "trials" / record.key / str(candidate.adapter_path)
    return {name: tensor.tolist() for name, tensor in load_file(folder / "adapter_model.safetensors").items()}


def results(path: Path, record: TrialRecord, cut: bool | None = None) -> list[Any]:
    """Figures and weights of the candidates: all, those that were cut, or those that were not."""
    return [
        (each.name, each.figures, each.ranks, each.tokens_seen, weights_of(path, record, each))
        for each in record.candidates
        if cut is None or (each.cut is not None) == cut
    ]


def log_of_cuts(path: Path, record: TrialRecord) -> list[Any]:
    return [line["cuts"] for line in Store(str(path)).read_log(record.key) if "cuts" in line]


# --- the training goes on as it was

VARIANTS: dict[str, dict[str, Any]] = {
    "a ladder": LADDER,
    "a ladder with moments and statistics, in branches": LADDER
    | {"pruning.schedule.rate": "branch", "pruning.basis": "whitened"},
    "components that are removed in events": LADDER
    | {"pruning.schedule.removal": "linear", "pruning.schedule.every_steps": 1, "pruning.schedule.rate": "continue"},
}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(values, id=name, marks=[] if "in events" in name else [pytest.mark.slow])
        for name, values in VARIANTS.items()
    ],
)
def test_a_training_goes_on_bit_for_bit_as_if_nothing_had_been_cut(
    values: dict[str, Any], tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    """With dropout in base and adapter, moments of the optimizer, statistics of the pruner, and a head."""
    values = values | {"adapter.dropout": 0.1, "model.config_overrides": {}}
    plain = trial_of(tree, values)
    cut = trial_of(tree, values | {"cuts": CUTS | {"at": "every_rung"}})
    whole = run(plain, tree, tmp_path / "plain", assets)
    record = run(cut, tree, tmp_path / "cut", assets)
    assert results(tmp_path / "cut", record, cut=False) == results(tmp_path / "plain", whole)
    steps = {candidate.step for candidate in record.candidates}
    assert {candidate.step for candidate in record.candidates if candidate.cut is not None} == steps
    assert len(steps) == 3


def test_cuts_keep_to_their_budgets_and_are_records_like_any_other(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    trial = trial_of(
        tree,
        LORA
        | {"cuts": CUTS | {"sizes": {"parameters": [900, 300]}, "allocations": ["global", "global_per_parameter"]}},
    )
    record = run(trial, tree, tmp_path / "store", assets)
    trained, *cuts = record.candidates
    assert trained.cut is None
    (line,) = log_of_cuts(tmp_path / "store", record)
    asked = [
        f"12-{basis}-{allocation}-parameters-{size}"
        for size in (900, 300)
        for basis in ("svd", "whitened")
        for allocation in ("global", "global_per_parameter")
    ]
    assert [each.name for each in cuts] == [name for name in asked if name not in line["left_out"]]
    assert len(cuts) >= 4
    assert record.layer_widths is not None
    widest = max(map(sum, record.layer_widths.values()))
    for each in cuts:
        assert each.cut is not None
        assert each.cut.size - widest < each.adapter_params <= each.cut.size
        factors = [w for name, w in weights_of(tmp_path / "store", record, each).items() if ".lora_" in name]
        assert sum(len(w) * len(w[0]) for w in factors) == each.adapter_params
        assert each.certificate is not None
        assert each.head_params == trained.head_params
        assert (each.step, each.train_seconds, each.tokens_seen) == (12, trained.train_seconds, trained.tokens_seen)


def test_what_takes_nothing_or_is_another_cut_is_left_out_and_the_log_says_so(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    cuts = {
        "sizes": {"mean_rank": [4, 2.01, 2]},
        "allocations": ["global"],
        "at": "every_rung",
        "screen_examples": None,
    }
    record = run(trial_of(tree, LADDER | {"cuts": cuts}), tree, tmp_path / "store", assets)
    made = {rung: [c.cut.size for c in record.candidates if c.cut and c.rung == rung] for rung in range(3)}
    assert made == {0: [4, 2.01], 1: [2.01], 2: []}
    lines = log_of_cuts(tmp_path / "store", record)
    assert lines[1]["left_out"] == {
        "8-svd-global-mean_rank-4": "takes nothing",
        "8-svd-global-mean_rank-2": "is 8-svd-global-mean_rank-2.01",
    }
    assert set(lines[2]["left_out"].values()) == {"takes nothing"}
    assert (lines[0]["examples_screened"], lines[0]["examples_evaluated"]) == (0, 2 * 20)


# --- which are worth a candidate


def test_screened_cuts_are_on_record_and_the_best_of_every_size_is_a_candidate(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    """Oracle: all cuts evaluated."""
    sizes = {"mean_rank": [4, 2, 1]}
    cuts = {"sizes": sizes, "bases": ["svd", "whitened"], "allocations": ["uniform", "global"], "at": "end"}
    values = LORA | {"optimizer.learning_rate": 5e-2, "optimizer.head_learning_rate": 1e-4, "training.num_steps": 60}
    screened = trial_of(tree, values | {"cuts": cuts | {"screen_examples": 10}})
    every = trial_of(tree, values | {"cuts": cuts | {"screen_examples": None}})
    record = run(screened, tree, tmp_path / "screened", assets)
    whole = run(every, tree, tmp_path / "every", assets)
    assert all(each.loss is None and each.is_wanted == (each.left_out is None) for each in whole.screened_cuts)
    measured = [each for each in record.screened_cuts if each.left_out is None]
    evaluated = {each.name for each in measured if each.beaten_by is None}
    passed_over = [each for each in measured if each.beaten_by is not None]
    assert evaluated == {candidate.name for candidate in record.candidates if candidate.cut is not None}
    assert passed_over
    assert {each.name for each in measured} == {c.name for c in whole.candidates if c.cut is not None}
    assert {each.loss and each.loss.num_examples for each in measured} == {10}
    by_name = {each.name: each for each in measured}
    for each in passed_over:
        winner = by_name[str(each.beaten_by)]
        assert winner.adapter_params <= each.adapter_params
        assert winner.loss.value < each.loss.value
    for each in measured:  # what is best there among all that are no larger is never passed over
        rivals = [other for other in measured if other.adapter_params <= each.adapter_params]
        assert min(rivals, key=lambda other: other.loss.value).beaten_by is None
    (line,) = log_of_cuts(tmp_path / "screened", record)
    assert line["passed_over"] == {each.name: each.beaten_by for each in passed_over}
    assert line["examples_screened"] == 10 * len(measured)
    assert line["examples_evaluated"] == 20 * len(evaluated)
    shared = [result for result in results(tmp_path / "every", whole) if result[0] in evaluated | {"60"}]
    assert results(tmp_path / "screened", record) == shared


def test_adapters_of_earlier_rungs_beat_cuts_too(tree: dict[str, Any], assets: AssetCache, tmp_path: Path) -> None:
    """A cut at a late rung to the size of an early cut is compared with it: all are of one training."""
    cuts = {"sizes": {"mean_rank": [0.5]}, "at": "every_rung", "screen_examples": 20}
    values = LADDER | {"optimizer.learning_rate": 2e-2, "training.num_steps": 30, "cuts": cuts}
    record = run(trial_of(tree, values), tree, tmp_path / "store", assets)
    first, *later = record.screened_cuts
    assert {each.cut for each in later} == {first.cut}
    known = {candidate.name for candidate in record.candidates}
    assert all(each.beaten_by is None or each.beaten_by in known for each in record.screened_cuts)


# --- interrupted, shared, of other methods


@pytest.mark.parametrize("screen_examples", [None, 10])
def test_a_kill_among_the_cuts_of_a_rung_repeats_those_that_are_missing_alone(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen_examples: int
) -> None:
    trial = trial_of(tree, LADDER | {"cuts": CUTS | {"at": "every_rung", "screen_examples": screen_examples}})
    whole = run(trial, tree, tmp_path / "whole", assets)
    names = [candidate.name for candidate in whole.candidates]
    dies_at = next(each.name for each in reversed(whole.candidates) if each.cut is not None and each.rung == 1)
    made: list[str] = []
    make = execute_module.make_candidate

    def make_or_die(*given: Any, cut: Any, **more: Any) -> Any:
        made.append(f"{given[0].step}" + ("" if cut is None else cut.name))
        if made[-1] == dies_at and made.count(dies_at) == 1:
            raise KilledError
        return make(*given, cut=cut, **more)

    monkeypatch.setattr(execute_module, "make_candidate", make_or_die)
    with pytest.raises(KilledError):
        run(trial, tree, tmp_path / "killed", assets)
    num_made = len(made)
    record = run(trial, tree, tmp_path / "killed", assets)
    assert made[num_made:] == names[names.index(dies_at) :]
    assert results(tmp_path / "killed", record) == results(tmp_path / "whole", whole)
    assert record.screened_cuts == whole.screened_cuts


@pytest.mark.parametrize("method", ["droplora", "l1ra"])
def test_other_methods_with_plain_factors_are_cut_and_go_on(
    method: str, tree: dict[str, Any], assets: AssetCache, tmp_path: Path
) -> None:
    """Gates are folded in before, so that a cut to nearly all is nearly the adapter; they are back afterwards."""
    own = {
        "l1ra": {"l1ra": {"gate_learning_rate": 0.05, "gate_penalty": 0.3, "threshold": 0.95, "every": 0.25}},
        "droplora": {"droplora": {"probability": 0.5}},
    }[method]
    cuts = {"sizes": {"kept": [0.98, 0.3]}, "bases": ["svd", "whitened"], "screen_examples": None}
    trial = trial_of(tree, LORA | {"adapter.method": method} | own | {"cuts": cuts})
    record = run(trial, tree, tmp_path / "store", assets)
    trained, *made = record.candidates
    assert len(made) == 4
    for each in made[:2]:
        assert each.adapter_params < trained.adapter_params
        assert each.figures["loss"].value == pytest.approx(trained.figures["loss"].value, abs=5e-3)


def train_shared(rank: int, folder: Path, values: dict[str, Any]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29631"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    tree = sweep_tree(folder, "unused")
    run(trial_of(tree, values), tree, folder / "two", AssetCache(CPU), Workers(rank, 2, CPU))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_make_the_cuts_of_one(tmp_path: Path) -> None:
    tree = sweep_tree(tmp_path, "unused")
    values = LADDER | {"cuts": CUTS | {"at": "every_rung", "screen_examples": 9}}
    trial = trial_of(tree, values)
    one = run(trial, tree, tmp_path / "one", AssetCache(CPU))
    assert run_ranks(train_shared, 2, tmp_path, values) == [0, 0]
    two = Store(str(tmp_path / "two")).read_record(one.key)
    assert two is not None
    assert [(c.name, c.ranks) for c in two.candidates] == [(c.name, c.ranks) for c in one.candidates]
    for left, right in zip(one.candidates, two.candidates, strict=True):
        assert left.figures["loss"].value == pytest.approx(right.figures["loss"].value, rel=1e-3)
    assert [(s.name, s.beaten_by) for s in two.screened_cuts] == [(s.name, s.beaten_by) for s in one.screened_cuts]


# --- known before


def test_how_many_cuts_there_are_at_most_is_known_from_the_configuration(tree: dict[str, Any]) -> None:
    assert planned_cuts(trial_of(tree, LORA)).most_per_place == 0
    end = planned_cuts(trial_of(tree, LORA | {"cuts": CUTS}))
    assert (end.num_places, end.most_per_place, end.screen_examples) == (1, 4, None)
    rungs = planned_cuts(trial_of(tree, LADDER | {"cuts": {"sizes": {"kept": [0.1]}, "at": "every_rung"}}))
    assert (rungs.num_places, rungs.most_per_place, rungs.screen_examples) == (3, 1, 200)
    svd = planned_cuts(trial_of(tree, LORA | {"adapter.method": "svd", "svd": {"ranks": [4, 1]}}))
    assert (svd.num_places, svd.most_per_place, svd.screen_examples) == (1, 2, None)
