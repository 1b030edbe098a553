"""The table: nothing of it is lost, whatever there is to show."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from prunedlora.benchmarks.comparison import Trainings
from prunedlora.benchmarks.ladder_results import Measured, Plan, Results
from prunedlora.benchmarks.ladder_table import blocks, details, figures, show
from prunedlora.benchmarks.ladder_variants import variants_of
from prunedlora.config.load import load_sweep
from prunedlora.results.store import Store
from tests.benchmarks.measured_ladders import ACCURACY, made, results_of

PLAN = Plan(4, 1, 3, 0.02)
SETTINGS = Path(__file__).parents[2] / "search_spaces/ladder_settings.yaml"


def shown(results: Results) -> list[str]:
    text = io.StringIO()
    show(results, ACCURACY, Console(file=text, width=100))
    return text.getvalue().splitlines()


def test_blocks_are_as_few_as_fit() -> None:
    assert blocks([5, 5, 5], 21) == [[0, 1, 2]]
    assert blocks([5, 5, 5], 20) == [[0, 1], [2]]
    assert blocks([50, 5, 5], 20) == [[0], [1, 2]]


def test_real_variants_with_many_sizes_are_readable(tmp_path: Path) -> None:
    trainings = Trainings(load_sweep(SETTINGS), Store(str(tmp_path / "store")), lambda _: None)
    measured: dict[str, Measured] = {}
    for row, variant in enumerate(variants_of(trainings)):
        sizes = [planned.size.parameters(9856) for group in variant.groups for planned in group.planned]
        tests = {size: {seed: 0.5 + 0.01 * row + 0.002 * seed for seed in range(3)} for size in sizes}
        measured[variant.name] = made(variant.name, tests)
    results = results_of(*measured.values(), plan=PLAN)
    assert (len(results.variants), len(results.sizes) >= 9) == (21, True)
    lines = shown(results)
    assert max(map(len, lines)) <= 100
    heads = [line for line in lines if line.startswith("variant")]
    assert [word for head in heads for word in head.split()[1:]] == [
        *(f"{size:,}" for size in results.sizes), "hypervol.", "steps", "rate",
    ]  # fmt: skip
    for row, name in enumerate(results.variants):
        assert sum(line.startswith(f"{name} ") for line in lines) == len(heads)
        cell = f".{round(1000 * (0.502 + 0.01 * row)):03}±.001"
        of_it = [line for line in lines if line.startswith(f"{name}  ")]
        assert sum(line.count(cell) for line in of_it) >= len(measured[name].planned)


@pytest.mark.parametrize("num_sizes", [1, 9, 25])
def test_long_labels_fold_and_keep_every_letter(num_sizes: int) -> None:
    name = "a :key: ladder [whose] name is about as long as what somebody once found out about it, and longer"
    results = results_of(
        made(name, {157696 + 100 * number: {0: 0.93, 1: 0.94} for number in range(num_sizes)}), plan=PLAN
    )
    lines = shown(results)
    assert max(map(len, lines)) <= 100
    first = next(number for number, line in enumerate(lines) if line.startswith("variant"))
    column = "".join(line[:33].strip() for line in lines[first + 2 : lines.index("", first)])
    assert column.replace(" ", "") == name.replace(" ", "")
    assert "".join(lines).count(".935±.005") == num_sizes


def test_what_the_figures_are_measured_against_is_told() -> None:
    results = results_of(made("L", {1600: {0: 0.9}, 100: {0: 0.8}}), plan=PLAN, base=0.125)
    lines = shown(results)
    assert lines[0] == "Test accuracy by parameters, 3 seeds; base model 0.125 on the test split"
    assert lines[1] == "Hypervolume: mean gain above it along log10 of 100 to twice 1,600 parameters"
    told = details(results, ACCURACY)
    assert told["hypervolume_axis"] == {"smallest": 100, "twice": 1600}
    assert told["base"] == {"split": "test", "accuracy": 0.125}


def test_the_last_line_has_null_for_a_variant_without_all_sizes_at_any_seed() -> None:
    results = results_of(
        made("L", {1600: {0: 0.9}, 100: {1: 0.8}}, 7), made("R", {1600: {0: 0.5, 1: 0.5}, 100: {0: 0.1, 1: 0.1}}, 9),
        plan=PLAN,
    )  # fmt: skip
    task = figures("task", results, ACCURACY)["task"]
    assert task["L"] == {"quality": {"1600": [0.9, None, 1], "100": [0.8, None, 1]}, "hypervolume": None, "steps": 7}
    # Above the base from 1,600 on: log10 2 of log10 32.
    assert task["R"]["hypervolume"] == [pytest.approx(0.4 * 0.2), 0.0]
