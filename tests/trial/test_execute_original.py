"""An adapter that exists before a first step: evaluated as it came, cut, laddered down, as oracles say."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from prunedlora.config.identity import trial_key
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.memory import Fit
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.candidates import recorded
from prunedlora.trial.cut_sizes import planned_cuts
from tests.ranks import run_ranks
from tests.tiny import decoder_tree
from tests.trial.originals import (
    ALONE,
    CPU,
    CUTS,
    RAW,
    SVD,
    down_from,
    down_from_scratch,
    left,
    record_of,
    run,
    trial_of,
    untrained,
)

# --- oracles


ORACLES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "svd at once": (SVD, {}, {}),
    "raw in events": (RAW | {"ema_decay": 0.0}, {"removal": "linear", "every_steps": 2}, {}),
    "a constant rate": (
        SVD,
        {"rate": "continue", "optimizer_state": "new"},
        {"optimizer.decay": "constant", "optimizer.warmup": 0.0},
    ),
}


@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=[] if i == 0 else pytest.mark.slow) for i, f in enumerate(ORACLES)]
)
def test_rungs_from_an_adapter_are_those_of_a_ladder_that_has_it_as_its_trunk(
    tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path, form: str
) -> None:
    """Bit for bit, where all steps see the same, the optimizer begins anew and nothing before the rung is averaged."""
    pruning, schedule, values = ORACLES[form]
    whole, path = down_from_scratch(tree, pruning, schedule, values), trained[0]
    if form != "svd at once":
        path = tmp_path / "whole"
        run(whole, path, assets)
    trial = down_from(tree, f"store:{path}/{trial_key(whole)}@6", pruning, schedule, values)
    assert run(trial, tmp_path / "store", assets) == "completed"
    record, expected = record_of(trial, tmp_path / "store"), record_of(whole, path)
    stands = [(one.name, one.rung, one.progress, one.examples_seen) for one in record.candidates]
    assert stands == [("0", 0, 0.0, 0), ("4", 1, 0.5, 40), ("8", 2, 1.0, 80)]
    assert [one.is_original for one in record.candidates] == [True, False, False]
    for mine, other in zip(record.candidates, expected.candidates, strict=True):
        assert left(tmp_path / "store", record, mine) == left(path, expected, other)
    begun = [
        line for line in Store(str(tmp_path / "store")).read_log(record.key) if "ranks" in line and "loss" not in line
    ]
    assert [(line["step"], line["rung"]) for line in begun] == ([(0, 1), (4, 2)] if "events" not in form else [])


def test_what_is_not_trained_is_what_plain_peft_loads(
    tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path
) -> None:
    path, name = trained
    trial = untrained(tree, name, {"cuts": CUTS})
    assert run(trial, tmp_path / "store", assets) == "completed"
    record = record_of(trial, tmp_path / "store")
    original = record.candidates[0]
    assert (original.name, original.progress, original.rung, original.is_original) == ("0", 1.0, None, True)
    assert (original.train_seconds, original.tokens_seen, record.tokens_per_second, record.padding_share) == (
        0.0, 0, None, None,
    )  # fmt: skip
    assert record.config["adapter"]["start_from"] == name  # type: ignore[call-overload, index]
    assert record.environment.model["adapter"]["start_from"] == name  # type: ignore[call-overload, index]
    key, step = name.rpartition("/")[2].split("@")
    base = AutoModelForSequenceClassification.from_pretrained(trial.model.name, num_labels=2)
    plain = PeftModel.from_pretrained(base, str(path / "trials" / key / f"adapters/{int(step):06d}"))
    given = assets.get(trial)
    outcomes = evaluate(
        plain, given.task, given.validation[:40], batch_size=64, dtype=torch.float32, workers=ALONE, fit=Fit()
    )
    stored = Store(str(tmp_path / "store")).read_outcomes(record.key, "0")
    assert stored is not None
    assert (list(stored.loss_sums), list(stored.scores["accuracy"])) == (
        outcomes.loss_sums,
        outcomes.scores["accuracy"],
    )
    assert original.figures == recorded(figures(outcomes))


@pytest.mark.parametrize("method", ["lora", "svd"])
def test_cuts_of_what_is_not_trained_are_those_at_the_end_of_its_training(
    tree: dict[str, Any], assets: AssetCache, tmp_path: Path, method: str
) -> None:
    values = {"cuts": CUTS} if method == "lora" else {"svd": {"ranks": [3, 1]}, "cuts": None}
    whole = trial_of(tree, values | {"adapter.method": method, "pruning": None})
    run(whole, tmp_path / "whole", assets)
    expected = record_of(whole, tmp_path / "whole")
    trial = untrained(tree, f"store:{tmp_path}/whole/{expected.key}@6", values | {"method": method})
    run(trial, tmp_path / "store", assets)
    record = record_of(trial, tmp_path / "store")
    assert len(record.candidates) == len(expected.candidates) == (5 if method == "lora" else 3)
    for mine, other in zip(record.candidates, expected.candidates, strict=True):
        assert mine.name == other.name.replace("6", "0", 1)
        assert left(tmp_path / "store", record, mine) == left(tmp_path / "whole", expected, other)


@pytest.mark.slow
def test_cuts_of_the_start_are_those_of_what_is_not_trained(
    tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path
) -> None:
    """And the training goes on as if nothing had been cut."""
    _, name = trained
    plain = down_from(tree, name, SVD)
    trials = {
        "untrained": untrained(tree, name, {"cuts": CUTS}),
        "plain": plain,
        "start": trial_with(plain, {"cuts": CUTS | {"at": "start"}}),
        "every_rung": trial_with(plain, {"cuts": CUTS | {"at": "every_rung"}}),
    }
    found: dict[str, dict[str, list[Any]]] = {}
    for place, trial in trials.items():
        run(trial, tmp_path / place, assets)
        record = record_of(trial, tmp_path / place)
        found[place] = {one.name: left(tmp_path / place, record, one) for one in record.candidates}
        cuts = planned_cuts(trial)
        num_cut = sum(one.cut is not None for one in record.candidates)
        assert num_cut <= cuts.num_places * cuts.most_per_place
        assert len(record.screened_cuts) == cuts.num_places * cuts.most_per_place
    assert found["start"] == found["untrained"] | found["plain"]
    assert found["every_rung"].items() > found["start"].items()


# --- layers that leave, tasks, workers


def test_layers_may_leave_before_the_first_step(
    tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path
) -> None:
    trial = down_from(tree, trained[1], SVD, {"rungs": {"parameters": [150]}})
    assert run(trial, tmp_path / "store", assets) == "completed"
    _, last = record_of(trial, tmp_path / "store").candidates
    assert 0 in last.ranks.values()
    assert 0 < last.adapter_params <= 150


@pytest.mark.slow
def test_generation_from_an_adapter(tmp_path: Path) -> None:
    """The original is never judged by loss, whatever smaller adapters there are."""
    tree, assets = decoder_tree(tmp_path, "unused", metric="exact_match", max_new_tokens=4), AssetCache(CPU)
    first = trial_of(tree, {"adapter.method": "lora", "pruning": None, "evaluation.milestones": []})
    run(first, tmp_path / "first", assets)
    name = f"store:{tmp_path}/first/{record_of(first, tmp_path / 'first').key}@12"
    store = tmp_path / "store"
    given = {"adapter": {"method": "lora", "start_from": name}, "pruning": None, "evaluation.milestones": []}
    cut = trial_of(tree, given | {"training.num_steps": 0, "cuts": {"sizes": {"mean_rank": [2, 1]}}})
    pruning = {"schedule": {"name": "ladder", "rungs": {"mean_rank": [2, 1]}, "trunk": 0.0}, "basis": "svd"}
    down = trial_of(tree, given | {"adapter.method": "prunedlora", "pruning": pruning})
    for trial in (down, cut):
        run(trial, store, assets)
        original, *others = record_of(trial, store).candidates
        assert original.is_original
        assert {"loss", "exact_match"} <= original.figures.keys()
        assert original.figures == record_of(first, tmp_path / "first").candidates[-1].figures
        assert others


def _worker(rank: int, path: str, config: dict[str, Any], rendezvous: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    run(TrialConfig.model_validate(config), Path(path), AssetCache(CPU), workers=Workers(rank, 2, CPU))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_remove_and_cut_at_step_0_as_one_does(
    tree: dict[str, Any], assets: AssetCache, trained: tuple[Path, str], tmp_path: Path
) -> None:
    trial = trial_with(down_from(tree, trained[1], SVD), {"cuts": CUTS | {"at": "start"}})
    run(trial, tmp_path / "one", assets)
    arguments = (str(tmp_path / "two"), trial.model_dump(), str(tmp_path / "rendezvous"))
    Store(str(tmp_path / "two")).create_or_open({"storage": str(tmp_path / "two")})
    assert run_ranks(_worker, 2, *arguments) == [0, 0]
    mine, other = record_of(trial, tmp_path / "one").candidates, record_of(trial, tmp_path / "two").candidates
    assert [(c.name, c.rung, c.ranks, c.tokens_seen) for c in mine] == [
        (c.name, c.rung, c.ranks, c.tokens_seen) for c in other
    ]
    for one, two in zip(mine, other, strict=True):
        assert one.figures["loss"].value == pytest.approx(two.figures["loss"].value, abs=1e-4)
