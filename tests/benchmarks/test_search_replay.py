"""Searches replayed on the made-up table, whose front is known; the recorder on a tiny grid."""

import json
import math
from pathlib import Path

import moocore
import numpy
import pytest
from typer.testing import CliRunner

from prunedlora.benchmarks.command import app
from prunedlora.benchmarks.product import search_plans, search_toy
from prunedlora.benchmarks.product.search_figures import FULL, NEEDED, Comparison, compare, quartiles
from prunedlora.benchmarks.product.search_grid import Grid
from prunedlora.benchmarks.product.search_recorder import base_quality, read_rows, record_rows, table_of
from prunedlora.benchmarks.product.search_replay import Course, Replay, Stopping, Variant, area_over
from prunedlora.benchmarks.product.search_table import Laboratory, read_table
from prunedlora.config.load import load_sweep
from prunedlora.config.sweep import SweepConfig
from tests.tiny import decoder_tree

SPACES = Path(__file__).parents[2] / "search_spaces"
FILES = {"ladder": "search_small.yaml", "single": "search_small_single.yaml"}


@pytest.fixture(scope="module")
def configs() -> dict[str, SweepConfig]:
    return {kind: load_sweep(SPACES / name) for kind, name in FILES.items()}


@pytest.fixture(scope="module")
def toy(configs: dict[str, SweepConfig]) -> dict[str, Laboratory]:
    table = search_toy.toy_table(*(Grid.of(config) for config in configs.values()))
    return {kind: Laboratory.of(config, table[kind]) for kind, config in configs.items()}


def test_the_grids_are_what_was_asked_for(configs: dict[str, SweepConfig]) -> None:
    grids = {kind: Grid.of(config) for kind, config in configs.items()}
    assert [len(grid.places()) for grid in grids.values()] == [216, 120]
    for grid in grids.values():
        for place in grid.places()[::7]:
            assert grid.place(grid.suggestion(place)) == place
            assert grid.trial(place).training.num_steps == 100
    # Between two values the nearer one in the logarithm.
    suggestion = {**grids["ladder"].suggestion((0, 0, 0, 0, 0)), "optimizer.learning_rate": 2.9e-3}
    assert grids["ladder"].place(suggestion)[0] == 2
    assert grids["ladder"].place(suggestion | {"optimizer.learning_rate": 2.8e-3})[0] == 1


def test_a_space_without_lists_is_no_grid() -> None:
    with pytest.raises(ValueError, match=r"space entry pruning.schedule.trunk has no list of values"):
        Grid.of(load_sweep(SPACES / "quickstart.yaml"))


@pytest.mark.parametrize("kind", ["ladder", "single"])
def test_a_search_of_everything_reaches_the_front_that_is_known(toy: dict[str, Laboratory], kind: str) -> None:
    laboratory = toy[kind]
    axis = laboratory.axis
    sizes = sorted({each.params for training in laboratory.trainings.values() for each in training.candidates})
    end, area = math.log10(2 * axis[1]), 0.0
    for size, after in zip(sizes, [*map(math.log10, sizes[1:]), end], strict=True):
        area += search_toy.quality(size) * (after - math.log10(size))  # quality rises with size
    expected = area / (end - math.log10(axis[0]))
    points = numpy.array([[search_toy.quality(size), math.log10(size)] for size in sizes])
    oracle = moocore.hypervolume(points, ref=[0.0, end], maximise=[True, False])
    assert oracle / (end - math.log10(axis[0])) == pytest.approx(expected, abs=1e-12)
    variant = Variant(kind, "random")
    course = Replay(laboratory, variant, seed=0, num_slots=2, area=area_over(axis, 0.0)).course(10**6)
    assert course.num_runs == len(laboratory.trainings)
    assert course.points[-1][0] <= 100 * course.num_runs
    assert course.points[-1][1] == pytest.approx(expected, abs=1e-12)


def test_a_run_is_charged_to_its_last_step_only(toy: dict[str, Laboratory]) -> None:
    area = area_over(toy["ladder"].axis, 0.0)

    def course(**settings: object) -> Course:
        stopping = Stopping(at_candidates=False, settings=settings)
        variant = Variant("ladder", "random", stopping=stopping)
        return Replay(toy["ladder"], variant, seed=3, num_slots=1, area=area).course(2_000)

    never, often = course(margin=99.0), course()
    plain = Replay(toy["ladder"], Variant("ladder", "random"), seed=3, num_slots=1, area=area).course(2_000)
    assert never == plain
    # Two asks are out: the one that trains, and one that waits.
    assert (plain.num_stopped, plain.num_runs) == (0, 22)
    # 10 steps of each that is stopped, 100 of each that is not.
    assert often.num_stopped > 10
    num_whole = often.num_runs - often.num_stopped
    assert abs(10 * often.num_stopped + 100 * num_whole - 2_000) <= 200
    assert often.points[-1][1] >= plain.points[-1][1]


def test_slots_share_the_budget_and_a_seed_repeats_itself(toy: dict[str, Laboratory]) -> None:
    area = area_over(toy["ladder"].axis, 0.0)
    variant = Variant("ladder", "tpe", {"telling": "candidates"}, Stopping())
    one, two, again = (
        Replay(toy["ladder"], variant, seed=1, num_slots=slots, area=area).course(1_000) for slots in (1, 2, 2)
    )
    assert two == again != one
    assert all(spent <= 1_000 for spent, _ in two.points)


def test_ladders_have_in_fewer_steps_what_single_points_have(toy: dict[str, Laboratory]) -> None:
    comparison = compare(toy, base=0.0, num_runs=15, num_seeds=2, num_slots=1, names=NEEDED)
    figures = comparison.figures()
    assert figures["num_seeds"] == 2
    assert figures["compute_ratio"] == figures["parts"][FULL]["ratio"] < 0.6
    assert figures["parts"][NEEDED[0]]["ratio"] <= 1.0
    json.dumps(figures, allow_nan=False)


def test_ratios_and_quartiles_by_hand() -> None:
    yardstick = [Course(((100, 0.2), (900, 0.5)), 9, 0), Course(((500, 0.4),), 9, 0)]
    full = [Course(((200, 0.5),), 9, 3), Course(((200, 0.3),), 9, 3)]
    comparison = Comparison(1_000, dict(zip(NEEDED, (yardstick, full), strict=True)))
    assert comparison.ratios(FULL) == [0.2, math.inf]
    assert comparison.ratios(NEEDED[0]) == [0.9, 0.5]
    assert comparison.figures()["parts"][FULL]["num_unreached"] == 1
    assert comparison.figures()["compute_ratio"] is None
    assert quartiles([5.0, 1.0, 2.0, 3.0, math.inf]) == (2.0, 5.0)


def test_of_a_sample_the_nearest_that_is_left_is_tried(configs: dict[str, SweepConfig]) -> None:
    config = configs["single"]
    table = search_toy.toy_table(*(Grid.of(each) for each in configs.values()))["single"]
    some = Laboratory.of(config, {**table, "rows": table["rows"][::9]})
    area = area_over(some.axis, 0.0)
    course = Replay(some, Variant("single", "tpe"), seed=0, num_slots=1, area=area).course(10**6)
    assert course.num_runs == len(some.trainings) == 14
    place = min(some.trainings)
    assert some.nearest(place) == [place]
    assert place not in some.nearest(place, {place})
    assert some.nearest(place, some.trainings) == []


def test_sizes_are_planned_as_a_sweep_plans_them_not_as_they_came_out(configs: dict[str, SweepConfig]) -> None:
    grid = Grid.of(configs["ladder"])
    table = search_toy.toy_table(*(Grid.of(each) for each in configs.values()))["ladder"]
    for number, row in enumerate(table["rows"]):  # below the budget by less than a component, now here, now there
        row["candidates"] = [
            [step, params - (rung > 0) * (number % 7), *more]
            for rung, (step, params, *more) in enumerate(row["candidates"])
        ]
    failing = table["rows"][5]
    failing |= {"candidates": failing["candidates"][:2], "failed": 70}
    laboratory = Laboratory.of(configs["ladder"], table)
    sizes = set()
    for place in laboratory.trainings:
        run = laboratory.run(place, 10, ended=False)
        rank = grid.suggestion(place)["adapter.initial_rank"]
        assert run["sizes"][0] == rank * search_toy.PER_RANK  # exact
        sizes.add((*run["sizes"][1:], *run["at"]))
        assert [each.size("adapter_params") for each in laboratory.planner(grid.trial(place))] == run["sizes"]
    assert len(sizes) == 1  # the failed one's too
    (planned,) = sizes
    budgets = [round(rank * search_toy.PER_RANK) for rank in search_toy.FALLING]
    assert planned[:4] == pytest.approx([math.sqrt(budget * (budget - 6)) for budget in budgets])
    alone = Laboratory.of(configs["ladder"], {**table, "rows": [failing]})
    with pytest.raises(ValueError, match=r"no whole training of the schedule of the one at \("):
        alone.run(tuple(failing["at"]), 10, ended=False)


def test_one_aim_is_one_budget_however_it_is_written(toy: dict[str, Laboratory]) -> None:
    single = toy["single"]
    of_rank_2 = {
        each.plans[place][0].bounds["adapter_params"]
        for each in (single,)
        for place in single.trainings
        if search_plans.aims(single.grid.trial(place))[0][1] == 2.0
    }
    assert of_rank_2 == {(2.0 * search_toy.PER_RANK,) * 2}
    aims = [search_plans.aims(single.grid.trial(place))[0] for place in ((0, 1, 0, 0), (1, 2, 0, 0), (1, 4, 2, 0))]
    assert aims == [("mean_rank", 2.0, True), ("mean_rank", 2.0, False), ("mean_rank", 2.0, False)]


def test_a_table_that_does_not_fit_is_refused(configs: dict[str, SweepConfig], tmp_path: Path) -> None:
    config = configs["single"]
    table = search_toy.toy_table(*(Grid.of(each) for each in configs.values()))["single"]
    with pytest.raises(ValueError, match="search_small_single has no rows: record them"):
        Laboratory.of(config, {**table, "rows": []})
    with pytest.raises(ValueError, match="of another grid than its file"):
        Laboratory.of(config, {**table, "grid": {}})
    (tmp_path / "t.json").write_text("rows")
    with pytest.raises(ValueError, match=r"t.json is no table of a search"):
        read_table(tmp_path / "t.json")


def test_a_tiny_grid_is_recorded_and_recorded_again(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    del tree["trial"]["evaluation"]["milestones"]
    tree["trial"]["training"]["num_steps"] = 10
    tree["trial"]["adapter"]["initial_rank"] = 4
    tree["trial"]["optimizer"]["learning_rate"] = 2.0e-3
    tree["trial"]["pruning"] = {
        "basis": "svd",
        "schedule": {"name": "ladder", "rungs": {"mean_rank": [2, 1]}, "trunk": 0.4},
    }
    tree["space"] = {"optimizer.learning_rate": {"choice": [1.0e-3, 2.0e-3]}}
    config = SweepConfig.model_validate(tree)
    said: list[str] = []
    tables = []
    for folder in ("once", "again"):
        (tmp_path / folder).mkdir()
        for part in (0, 1):
            record_rows("ladder", config, tmp_path / folder / f"{part}.jsonl", part=(part, 2), say=said.append)
        tables.append(table_of({"ladder": Grid.of(config)}, list(read_rows(tmp_path / folder))))
    assert tables[0] == tables[1]
    record_rows("ladder", config, tmp_path / "again" / "2.jsonl", part=(0, 1), say=said.append)
    assert len(said) == 4  # what is there is not trained again
    laboratory = Laboratory.of(config, tables[0]["ladder"])
    training = laboratory.trainings[(1,)]
    assert [each.step for each in training.candidates] == [4, 7, 10]
    assert sorted(training.looks) == [1, 2, 3]
    assert list(training.removals) == [5, 8]
    sizes = [each.params for each in training.candidates]
    assert sizes == sorted(sizes, reverse=True)
    record = laboratory.record((1,), 7, stopped=True)
    assert [each.step for each in record.candidates] == [4, 7]
    assert [each.bounds["adapter_params"][0] for each in laboratory.planner(config.trial)] == sizes
    assert base_quality(config.trial) > 0  # a loss
    (tmp_path / "once" / "0.jsonl").write_text("{half\n")
    with pytest.raises(ValueError, match=r"0.jsonl has a line that is no row: '\{half'"):
        list(read_rows(tmp_path / "once"))


def test_the_command_ends_with_the_figures(configs: dict[str, SweepConfig], tmp_path: Path) -> None:
    table = search_toy.toy_table(*(Grid.of(config) for config in configs.values()))
    (tmp_path / "table.json").write_text(json.dumps(table))
    options = ["--num-runs", "2", "--num-seeds", "1", "--figure", str(tmp_path / "curves.html")]
    files = [f"--ladders={SPACES / FILES['ladder']}", f"--single={SPACES / FILES['single']}"]
    result = CliRunner().invoke(app, ["search", str(tmp_path / "table.json"), *files, *options])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output.splitlines()[-1])
    assert {"compute_ratio", "quartiles", "num_seeds", "parts", "made_up"} <= figures.keys()
    assert "hypervolume" in (tmp_path / "curves.html").read_text(encoding="utf-8")
