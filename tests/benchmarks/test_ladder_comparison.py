"""The comparison of ladders: sizes, steps and tuning as planned; figures paired by seed; what is there stays."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.benchmarks import tested_candidates
from prunedlora.benchmarks.command import app
from prunedlora.benchmarks.comparison import RATE, ComparisonError, Trainings, UntrainedError, only
from prunedlora.benchmarks.ladder_answers import mean_gain
from prunedlora.benchmarks.ladder_comparison import _tests, left_to_train, measure
from prunedlora.benchmarks.ladder_results import Plan, Results
from prunedlora.benchmarks.ladder_sentences import answers
from prunedlora.benchmarks.ladder_table import figures, show
from prunedlora.benchmarks.ladder_variants import Group, variants_of
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.benchmarks.tested_candidates import Examiner
from prunedlora.config.load import parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.results.store import Store
from prunedlora.tasks.outcomes import figures as outcome_figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.trial.assets import load_assets
from tests.benchmarks.in_process import CPU, Runner
from tests.tiny import sweep_tree

RUNGS: dict[str, Any] = {"name": "ladder", "rungs": {"mean_rank": [2, 1]}, "trunk": 0.5}
LADDER: dict[str, Any] = {"basis": "svd", "allocation": "global_per_parameter", "min_rank": 0, "schedule": RUNGS}
BASELINES: list[dict[str, Any]] = [
    {"label": "ladder", "adapter.initial_rank": 4, "pruning": LADDER, RATE: 0.05},
    *(
        {"label": f"LoRA: rank {r}", "adapter.method": "lora", "pruning": None, "adapter.initial_rank": r, RATE: 0.05}
        for r in (4, 2)
    ),
]
PER_RANK = 2 * (4 * (16 + 16) + 2 * (16 + 32))
"""Parameters of a component in all linear layers of the tiny model."""
PLAN = Plan(num_rates=1, num_tuning_seeds=1, num_seeds=2, margin=0.5, ladder="ladder", reference="LoRA")


def comparison(folder: Path, baselines: list[dict[str, Any]], **changes: Any) -> Trainings:
    tree = sweep_tree(folder / "tiny", "unused") | {"num_trials": 0, "space": {}, "baselines": baselines}
    tree["trial"] |= changes
    tree["trial"]["evaluation"] = {"metric": "accuracy"}
    store = Store(str(folder / "store"))
    return Trainings(parse_sweep(tree, "test"), store, Runner(store))


def one_rung(size: float) -> dict[str, Any]:
    return LADDER | {"schedule": RUNGS | {"rungs": {"mean_rank": [size]}, "trunk": 0.75}}


def measured(trainings: Trainings, plan: Plan, whole: SweepConfig | None = None) -> tuple[Results, str]:
    torch.set_num_threads(1)
    text = io.StringIO()
    console = Console(file=text, width=100)
    return measure(trainings, plan, whole=whole or trainings.config, device=CPU, console=console), text.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_ladder_and_dedicated_trainings_are_compared_by_size_and_seed_and_what_is_there_stays(
    tmp_path: Path,
) -> None:
    trainings = comparison(tmp_path, BASELINES)
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(trainings.config.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    asked = ["--ladder", "ladder", "--reference", "LoRA", "--margin", "0.5"]
    command = ["ladder", str(file), "--storage", trainings.store.uri, "--num-rates", "1", "--num-seeds", "2", *asked]
    before = CliRunner().invoke(app, [*command, "--dry-run"])
    assert before.output.splitlines()[-1] == "6 of 6 trainings are left: 72 steps"
    assert not (tmp_path / "store").exists()
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    (title,) = (number for number, line in enumerate(lines) if line.startswith("Test accuracy by parameters, 2 seeds"))
    assert max(map(len, lines[title : lines.index("One rate, not tuned: a hint.")])) <= 100
    report = json.loads(lines[-1])["tiny"]
    # Again, in this process: what is there is read, and the same.
    results = measure(trainings, PLAN, whole=trainings.config, device=CPU, console=Console(file=io.StringIO()))
    assert isinstance(trainings.run, Runner)
    assert trainings.run.labels == []
    assert json.loads(json.dumps(figures("tiny", results, trainings.objectives))) == {"tiny": report}
    (of_4, of_2, of_1) = results.sizes
    assert (of_4, of_2) == (4 * of_1, 2 * of_1)
    assert list(results.variants["LoRA"].tests) == [of_4, of_2]
    assert report.keys() == {"ladder", "LoRA"}
    assert (report["ladder"]["steps"], report["LoRA"]["steps"]) == (12, 24)
    ladder = results.variants["ladder"]
    ours = ladder.quality(of_2, "accuracy")
    assert set(ours) == {1, 2}
    assert report["ladder"]["quality"][str(of_2)] == list(over_seeds(list(ours.values())))
    at_seed_1 = {size: tests[1]["accuracy"].value for size, tests in ladder.tests.items()}
    areas = results.areas("ladder", trainings.objectives)
    assert areas[1] == pytest.approx(mean_gain(at_seed_1, results.base, of_1, of_4), abs=1e-12)
    # What it loses is of equal seeds, and stands at the sizes that both have.
    told, found = answers(results, trainings.objectives)
    assert [line for line in told if line not in lines] == []
    # LoRA is not asked for the smallest: over the sizes that both plan.
    of_both = found["hypervolume"]["minus"]["LoRA"]
    assert (of_both["sizes"], of_both["axis"]) == ([of_4, of_2], (of_2, of_4))
    at_both = {n: {s: v.quality(s, "accuracy")[1] for s in (of_4, of_2)} for n, v in results.variants.items()}
    gains = [mean_gain(at_both[name], results.base, of_2, of_4) for name in ("ladder", "LoRA")]
    assert json.loads(json.dumps(of_both["by_seed"]))["1"] == pytest.approx(gains[0] - gains[1], abs=1e-12)
    theirs = results.variants["LoRA"].quality(of_2, "accuracy")
    assert found["loses"]["at"].keys() == {str(of_4), str(of_2)}
    assert found["loses"]["at"][str(of_2)]["mean"] == over_seeds([theirs[s] - ours[s] for s in (1, 2)])[0]
    assert told[2] == "  at ¼ of the dedicated trainings' total or less? no (0.50: 12 of 24 steps)"
    assert (
        f"minus that of LoRA, at the 2 sizes that both plan, from {of_2:,} to twice {of_4:,} parameters: " in told[-1]
    )
    everything = json.loads((tmp_path / "store" / "ladder.json").read_text())
    assert everything["variants"]["LoRA"]["test"][str(of_2)]["1"].keys() == {"accuracy", "loss"}
    assert everything["answers"]["loses"]["everywhere"] == found["loses"]["everywhere"]


def test_trainings_that_share_a_trunk_have_one_rate_and_its_steps_count_once(tmp_path: Path) -> None:
    cont = [
        {"label": f"Cont: {size}", "adapter.initial_rank": 4, "pruning": one_rung(size), RATE: 0.05}
        for size in (2, 1, 0.5)
    ]
    (variant,) = variants_of(comparison(tmp_path, cont))
    (group,) = variant.groups
    assert group.labels == ("Cont: 2", "Cont: 1", "Cont: 0.5")
    assert [str(planned.size) for planned in group.planned] == [
        "mean rank 4", "mean rank 2", "mean rank 1", "mean rank 0.5",
    ]  # fmt: skip
    assert variant.num_steps == 9 + 3 * 3
    other = cont[1] | {"pruning": one_rung(1) | {"allocation": "global"}}
    with pytest.raises(ComparisonError, match="'Cont' gives mean rank 4 more than once"):
        variants_of(comparison(tmp_path, [cont[0], other]))


def test_trainings_with_one_size_are_tuned_by_themselves(tmp_path: Path) -> None:
    ladder, lora = variants_of(comparison(tmp_path, BASELINES))
    assert [group.name for group in ladder.groups] == ["ladder"]
    assert [group.name for group in lora.groups] == ["LoRA: rank 4", "LoRA: rank 2"]


def sizes_of(group: Group) -> list[str]:
    return [str(planned.size) for planned in group.planned]


def test_sizes_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    svd = {"label": "post", "adapter.method": "svd", "pruning": None, "svd": {"ranks": [4, 1]}}
    kept = {"label": "kept", "pruning": LADDER | {"schedule": RUNGS | {"rungs": {"kept": [0.5, 0.1]}}}}
    params = {"label": "params", "pruning": LADDER | {"schedule": RUNGS | {"rungs": {"parameters": [500]}}}}
    rank = {"label": "rank", "pruning.target_sparsity": None, "pruning.target_rank": 2}
    share = {"label": "share"}
    cut = {"label": "cut", "cuts": {"sizes": {"mean_rank": [1]}, "screen_examples": None}}
    found = {
        variant.name: sizes_of(variant.groups[0])
        for variant in variants_of(comparison(tmp_path, [svd, kept, params, rank, share, cut]))
    }
    assert found == {
        "post": ["mean rank 6", "mean rank 4", "mean rank 1"],
        "kept": ["mean rank 6", "mean rank 3", "mean rank 0.6"],
        "params": ["mean rank 6", "parameters 500"],
        "rank": ["mean rank 2"],
        "share": ["mean rank 3"],
        "cut": ["mean rank 3", "mean rank 1"],
    }


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    twice = [BASELINES[0], BASELINES[2] | {"label": "ladder: rank 2"}]
    with pytest.raises(ComparisonError, match="'ladder' gives mean rank 2 more than once"):
        variants_of(comparison(tmp_path, twice))
    rungs = [BASELINES[0] | {"cuts": {"sizes": {"mean_rank": [1]}, "at": "every_rung"}}]
    with pytest.raises(ComparisonError, match=r"'ladder': cuts\.at every_rung gives sizes several times"):
        variants_of(comparison(tmp_path, rungs))
    epochs = [{"label": "LoRA", "adapter.method": "lora", "pruning": None, "training.num_steps": None}]
    with pytest.raises(ComparisonError, match=r"give training\.num_steps instead of num_epochs"):
        variants_of(comparison(tmp_path, [epochs[0] | {"training.num_epochs": 1.0}]))
    plan = Plan(1, 1, 1, 0.02, ladder="lader")
    with pytest.raises(ComparisonError, match="--ladder 'lader' is none of: 'ladder', 'LoRA'"):
        plan.check(["ladder", "LoRA"])
    with pytest.raises(ComparisonError, match="--rival 'LoRA' is compared with --ladder, which is not given"):
        Plan(1, 1, 1, 0.02, rival="LoRA").check(["ladder", "LoRA"])
    with pytest.raises(ComparisonError, match="--reference 'LoRA' is --ladder too: these must be different variants"):
        Plan(1, 1, 1, 0.02, ladder="LoRA", reference="LoRA").check(["ladder", "LoRA"])
    with pytest.raises(ComparisonError, match="--rival 'LoRA' is --reference too"):
        Plan(1, 1, 1, 0.02, ladder="ladder", reference="LoRA", rival="LoRA").check(["ladder", "LoRA"])
    # Rank 1 in one unit and in the other: known from the model, before anything is trained.
    same = [BASELINES[2] | {"label": "LoRA: 1", "adapter.initial_rank": 1}, BASELINES[0] | {"label": "LoRA: 2"}]
    same[1] |= {"pruning": LADDER | {"schedule": RUNGS | {"rungs": {"parameters": [PER_RANK]}}}}
    trainings = comparison(tmp_path, same)
    with pytest.raises(ComparisonError, match=r"'LoRA' gives 448 parameters more than once \(LoRA: 2, parameters 448"):
        measured(trainings, replace(PLAN, ladder=None, reference=None))
    assert not (tmp_path / "store").exists()


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    trainings = comparison(tmp_path, BASELINES[2:])
    plan = Plan(num_rates=1, num_tuning_seeds=1, num_seeds=2, margin=0.02)
    trainings.run = Runner(trainings.store, most=1)
    with pytest.raises(UntrainedError, match="LoRA: rank 2, seed 2 is not trained yet: run the same command again"):
        measured(trainings, plan)
    assert left_to_train(trainings, plan) == "1 of 2 trainings are left: 12 steps"
    tuned = Plan(num_rates=3, num_tuning_seeds=1, num_seeds=2, margin=0.02)
    assert left_to_train(trainings, tuned).startswith("4 of 5 trainings are left: 48 steps, and more where the best")


def test_seeds_that_failed_are_named_and_in_no_mean(tmp_path: Path) -> None:
    """Its loss is no number at that rate."""
    broken = BASELINES[2] | {"label": "LoRA: rank 2", RATE: 1e30}
    fine = BASELINES[1] | {"label": "LoRA: rank 4"}
    trainings = comparison(tmp_path, [fine, broken])
    results, _ = measured(trainings, Plan(num_rates=1, num_tuning_seeds=1, num_seeds=1, margin=0.02))
    assert results.sizes == [4 * PER_RANK, 2 * PER_RANK]  # told by the model, not by what was trained
    assert results.variants["LoRA"].missing == {"LoRA: rank 2, mean rank 2": [1]}
    assert results.areas("LoRA", trainings.objectives) == {}  # not all of its sizes
    assert figures("tiny", results, trainings.objectives)["tiny"]["LoRA"]["hypervolume"] is None
    shown = io.StringIO()
    show(results, trainings.objectives, Console(file=shown, width=100))
    assert "LoRA: rank 2, mean rank 2: no figures of seed 1, in no mean" in shown.getvalue()


def test_the_axis_is_of_the_whole_file_and_the_base_is_tested_once(tmp_path: Path, monkeypatch: Any) -> None:
    trainings = comparison(tmp_path, BASELINES)
    chosen = replace(trainings, config=only(trainings.config, ["LoRA: rank 2"]))
    plan = Plan(num_rates=1, num_tuning_seeds=1, num_seeds=1, margin=0.02)
    results, _ = measured(chosen, plan, trainings.config)
    assert results.sizes == [2 * PER_RANK]
    assert results.axis == (PER_RANK, 4 * PER_RANK)
    # By hand, on the split that candidates are tested on.
    loaded = load_assets(trainings.config.trial, CPU)
    workers = Workers(0, 1, CPU)
    outcomes = evaluate(
        loaded.base.model, loaded.task, loaded.test, batch_size=5, dtype=loaded.base.dtype, workers=workers
    )
    (at_test,) = (figure.value for name, figure in outcome_figures(outcomes).items() if name == "accuracy")
    assert results.base == at_test
    kept = trainings.store.storage.read_text("base_test.json")
    assert kept is not None
    monkeypatch.setattr(tested_candidates, "evaluate", None)
    assert measured(chosen, plan, trainings.config)[0] == results


def test_a_variant_with_an_untuned_training_lacks_its_seeds(tmp_path: Path) -> None:
    trainings = comparison(tmp_path, BASELINES[1:])
    (variant,) = variants_of(trainings)
    examiner = Examiner(trainings.store, CPU, Console(file=io.StringIO()))
    components = {label: PER_RANK for group in variant.groups for label in group.labels}
    found = _tests(trainings, variant, components, {}, range(1, 3), examiner)
    assert found.planned == (4 * PER_RANK, 2 * PER_RANK)
    assert (found.tests, found.whole_seeds(found.planned)) == ({}, set())
    assert found.missing == {"LoRA: rank 4, mean rank 4": [1, 2], "LoRA: rank 2, mean rank 2": [1, 2]}
