"""The comparison of methods: rates are tuned and widened on validation, fresh seeds are tested, what is there stays."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from prunedlora.benchmarks import accuracy, tested_candidates
from prunedlora.benchmarks.accuracy import compare
from prunedlora.benchmarks.comparison import RATE, ComparisonError, Contender, Training, Trainings, only
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.config.identity import trial_key
from prunedlora.config.load import ConfigError, parse_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.stored_adapter import StoredAdapterError
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.record import Figure
from prunedlora.results.store import Store
from tests.benchmarks.in_process import Runner
from tests.inventions import invented_record
from tests.tiny import sweep_tree

CPU = torch.device("cpu")
METHODS: list[dict[str, Any]] = [
    # A rate far too small: the grid has to grow upwards.
    {"label": "lora", "adapter.method": "lora", "pruning": None, "adapter.initial_rank": 2, RATE: 5e-3},
    {"label": "pruned", "pruning.target_sparsity": None, "pruning.target_rank": 2, RATE: 0.1},
    {"label": "svd", "adapter.method": "svd", "pruning": None, "svd": {"ranks": [2]}, RATE: 0.1},
]  # fmt: skip


def comparison(folder: Path, **changes: Any) -> SweepConfig:
    tree = sweep_tree(folder / "tiny", "unused") | {"num_trials": 0, "space": {}, "baselines": METHODS} | changes
    return parse_sweep(tree, "test")


def figures_of(config: SweepConfig, run: Runner, text: io.StringIO, against: str | None = None) -> dict[str, Any]:
    torch.set_num_threads(1)
    return compare(
        Trainings(config, run.store, run),
        num_rates=3,
        num_tuning_seeds=1,
        num_seeds=2,
        against=against,
        device=CPU,
        console=Console(file=text, width=120),
    )


@pytest.mark.slow
def test_rates_are_tuned_fresh_seeds_tested_and_what_is_there_stays(tmp_path: Path) -> None:
    config, store = comparison(tmp_path), Store(str(tmp_path / "store"))
    with pytest.raises(ComparisonError, match="not trained yet: run the same command again"):
        figures_of(config, Runner(store, most=5), io.StringIO())
    first, text = Runner(store), io.StringIO()
    figures = figures_of(config, first, text)
    assert not any(label and label.startswith("lora, rate 0.0025,") for label in first.labels)  # was there already
    assert figures.keys() == {"lora", "pruned", "svd", "details"}
    (two,) = figures["lora"].keys()
    assert figures["pruned"].keys() == {two}  # equal final parameters
    assert two in figures["svd"]
    assert len(figures["svd"]) == 2  # and uncut
    details = figures["details"]
    assert details["tuning_seeds"] == [0]
    assert {tuple(tested) for tested in details["test"].values()} == {(1, 2)}
    for name, rates in details["tuning"].items():
        best = f"{details['learning_rate'][name]:g}"
        assert best not in (min(rates, key=float), max(rates, key=float))
        assert rates[best] == max(value for value in rates.values() if value is not None)
    assert len(details["tuning"]["lora"]) > 3
    assert (details["untuned"], details["refused"]) == ({}, {})
    assert "at the edge" in text.getvalue()
    mean, stderr, count = figures["lora"][two]
    assert (mean, stderr, count) == over_seeds(list(details["test"]["lora"].values()))
    assert count == 2
    assert "svd, cut to rank 2" in text.getvalue()
    again = Runner(store)
    assert figures_of(config, again, io.StringIO()) == figures
    assert again.labels == []
    # One code compares means over seeds, here and in `prunedlora compare`.
    verdicts = details["verdicts"]
    assert verdicts.keys() == {"pruned", "svd", "svd, cut to rank 2"}
    (at,) = verdicts["pruned"]["sizes"]
    assert at["better_by"] == pytest.approx(figures["pruned"][two][0] - mean)
    assert at["low"] < at["better_by"] < at["high"]
    assert verdicts["pruned"]["verdict"] == at["verdict"] == "unknown"  # of two seeds and a few examples
    assert (at["seeds"], verdicts["pruned"]["why_not"]) == ([2, 2], None)
    assert "As methods, by their means over seeds: no difference between pruned and lora can be told" in " ".join(
        text.getvalue().split()
    )
    outcomes = [store.read_outcomes(record.key, f"{record.candidates[-1].name}-test") for record in store.records()]
    assert sum(one is not None for one in outcomes) == 6  # three methods, two seeds: pairs of examples
    # Seed by seed against one of them, whose seeds are as lucky.
    text = io.StringIO()
    difference = figures_of(config, again, text, against="lora")["details"]["difference"]
    assert difference.keys() == {"against", "pruned", "svd", "svd, cut to rank 2"}
    pruned, lora = details["test"]["pruned"], details["test"]["lora"]
    assert difference["pruned"] == over_seeds([pruned[seed] - lora[seed] for seed in (1, 2)])
    assert f"{difference['pruned'][0]:+.4f} ± {difference['pruned'][1]:.4f}" in text.getvalue()
    # Methods by name, in the same store: nothing is trained twice, and each is what it was among the others.
    alone = figures_of(only(config, ["prun*"]), again, io.StringIO())
    assert again.labels == []
    assert alone.keys() == {"pruned", "details"}
    assert alone["pruned"] == figures["pruned"]


def test_a_damaged_adapter_is_said_and_in_no_mean_and_ends_nothing(tmp_path: Path) -> None:
    config, store = only(comparison(tmp_path), ["prun*"]), Store(str(tmp_path / "store"))
    run = Runner(store)
    whole = figures_of(config, run, io.StringIO())
    rate = whole["details"]["learning_rate"]["pruned"]
    (record,) = (r for r in store.records() if r.config["seed"] == 1 and r.config["optimizer"]["learning_rate"] == rate)
    adapter = tmp_path / "store" / store.trial_path(record.key, str(record.candidates[-1].adapter_path))
    (adapter / "test.json").unlink()
    weights = bytearray((adapter / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (adapter / "adapter_model.safetensors").write_bytes(weights)
    text = io.StringIO()
    figures = figures_of(config, run, text)
    (why,) = figures["details"]["refused"].items()
    assert why[0] == "pruned, seed 1"
    assert "is damaged: sha256" in why[1]
    assert "pruned, seed 1: refused, in no mean" in text.getvalue()
    assert figures["details"]["test"]["pruned"] == {1: None, 2: whole["details"]["test"]["pruned"][2]}
    (mean,) = figures["pruned"].values()
    assert mean[2] == 1


def test_seeds_that_failed_count_against_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is judged by its survivors nothing is told."""
    config, store = comparison(tmp_path), Store(str(tmp_path / "store"))
    trainings = Trainings(config, store, lambda _: None)
    point = Point(
        record := invented_record("k", config.baseline_trials()[0].model_dump(mode="json"), "completed"),
        record.candidates[0],
        Figure(value=0.9, stderr=0.01, num_examples=400),
        100.0,
    )
    whole, lost = Contender("lora", None), Contender("pruned", None)
    tests: accuracy.Tests = {whole: dict.fromkeys((1, 2, 3), (point, None)), lost: {1: (point, None), 3: (point, None)}}
    verdicts = accuracy._verdicts(trainings, tests, [1, 2, 3], None, Console())
    assert verdicts["pruned"] == {
        "against": "lora",
        "verdict": "unknown",
        "why_not": "of all settings of pruned that were repeated a training failed or left nothing",
        "condition": None,
        "fallen": [],
        "sizes": [],
    }
    assert "Of pruned and lora as methods nothing can be told: of all settings" in capsys.readouterr().out
    assert accuracy._verdicts(trainings, tests, [1, 2, 3], "svd", Console()) == {}
    one_seed = {contender: {1: tested[1]} for contender, tested in tests.items()}
    assert accuracy._verdicts(trainings, one_seed, [1], None, Console())["pruned"]["why_not"] == "one training each"


@pytest.mark.slow
def test_a_method_without_a_best_rate_is_left_out_and_said(tmp_path: Path) -> None:
    """Its loss is no number at any rate: it gets lower ones, and then the others are compared without it."""
    broken = METHODS[1] | {"label": "broken", RATE: 1e30}
    config, store = comparison(tmp_path, baselines=[METHODS[1], broken]), Store(str(tmp_path / "store"))
    text = io.StringIO()
    figures = figures_of(config, Runner(store), text)
    assert figures.keys() == {"pruned", "details"}
    why = figures["details"]["untuned"]["broken"]
    assert why.startswith("trainings fail at every learning rate, 7.8125e+27, ")
    assert set(figures["details"]["tuning"]["broken"].values()) == {None}
    assert len(figures["details"]["tuning"]["broken"]) == 3 + 6  # widened as often as may be
    assert f"broken is left out: {why}" in text.getvalue()
    with pytest.raises(ComparisonError, match="no method is tuned: broken: trainings fail at every learning rate"):
        figures_of(only(config, ["broken"]), Runner(store), io.StringIO())


def test_only_a_contender_can_be_compared_with(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"--against 'svd, rank 2' is none of: .*'svd, cut to rank 2'"):
        figures_of(comparison(tmp_path), Runner(Store(str(tmp_path / "store"))), io.StringIO(), "svd, rank 2")


def test_a_pattern_that_no_label_fits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="--only 'prune' fits none of: 'lora', 'pruned', 'svd'"):
        only(comparison(tmp_path), ["pruned", "prune"])
    unlabelled = only(comparison(tmp_path, baselines=[{"label": "a"}, {}]), ["a"])
    with pytest.raises(ConfigError, match="every baseline needs a label"):
        Trainings(unlabelled, Store(str(tmp_path / "store")), lambda _: None)


def test_the_figures_of_one_seed_has_no_standard_error() -> None:
    assert over_seeds([0.5]) == (0.5, None, 1)
    assert over_seeds([0.4, 0.6]) == (0.5, pytest.approx(0.1), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baselines": [{}]}, "every baseline needs a label"),
        ({"baselines": [{"label": "details"}]}, "no method may be called details"),
        ({"baselines": [{"label": "a", "seed": 3}]}, "no baseline may set a seed"),
        ({"retention": {"adapters": "front"}}, "retention.adapters must be all"),
        ({"num_trials": 1, "space": {"seed": {"int": [0, 9]}}}, "num_trials must be 0"),
        (
            {
                "baselines": [
                    {"label": "full", "adapter": None, "pruning": None, "full": {"head_modules": ["classifier"]}}
                ]
            },
            "full fine-tuning leaves no adapter",
        ),
    ],
)
def test_what_is_no_comparison_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainings(comparison(tmp_path, **changes), Store(str(tmp_path / "store")), lambda _: None)


def test_adapters_are_tested_on_the_commit_that_they_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep's file names a branch, which may have moved since; the record names the commits."""
    config, store = only(comparison(tmp_path), ["prun*"]), Store(str(tmp_path / "store"))
    trainings = Trainings(config, store, lambda _: None)
    training = Training("pruned", 0, 1)
    trial = trainings.trial(training)
    commits = {"model": "a" * 40, "data": "b" * 40}
    tree = trial.model_dump(mode="json")
    tree["model"] |= {"name": "some/model", "revision": commits["model"]}
    tree["data"]["train"] |= {"name": "some/data", "revision": commits["data"]}
    record = invented_record(trial_key(trial), tree, "completed")
    last = record.candidates[0].model_copy(update={"adapter_path": "adapters/000012"})
    store.write_record(record.model_copy(update={"candidates": (last,)}), driver_epoch=1)
    tested: list[TrialConfig] = []

    def measure(trial: TrialConfig, key: str, candidate: str, **_: Any) -> None:
        tested.append(trial)
        raise StoredAdapterError("enough seen")

    monkeypatch.setattr(tested_candidates, "measure_test", measure)
    best = {Contender("pruned", None): 0}
    _, refused = accuracy._tests(trainings, best, [1], CPU, Console(file=io.StringIO()))
    assert refused == {"pruned, seed 1": "enough seen"}
    assert [(trial.model.revision, trial.data.train.revision) for trial in tested] == [("a" * 40, "b" * 40)]
