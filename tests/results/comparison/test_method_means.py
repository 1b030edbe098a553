"""Methods by their means over seeds: what is told, of which sizes, and that luck alone is hardly ever a verdict."""

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pytest

from prunedlora.results.ask import ConfirmationPlan, ConfirmedSetting
from prunedlora.results.comparison.comparison_page import comparison_document
from prunedlora.results.comparison.comparison_tables import overview
from prunedlora.results.comparison.fronts import Comparison, compare
from prunedlora.results.comparison.groups import ComparisonError, Group, groups_by, groups_of_stores
from prunedlora.results.comparison.words import notes, of_adapters, of_methods, terms_of
from prunedlora.results.record import ExampleOutcomes, Failure, Figure
from prunedlora.results.store import Store

N = 200
stores = itertools.count()


@pytest.fixture
def trained(record, candidate, failed, sweep):
    """trained({settings: {seed: outcomes of N examples, None for a failed training}}, sizes): one group of trainings
    in memory for each method, all in one store."""

    def make(methods: dict[str, list[dict[int, np.ndarray | None]]], size: int = 100, fault="trial", rates=(0.1,)):
        store = Store(f"memory://means{next(stores)}")
        store.create_or_open(sweep)
        for name, settings in methods.items():
            for number, seeds in enumerate(settings):
                for seed, scores in seeds.items():
                    key = f"{name}-{number}-{seed}"
                    config = {
                        "adapter": {"method": name, "number": number},
                        "optimizer": {"learning_rate": rates[number % len(rates)]},
                        "seed": seed,
                    }
                    if scores is None:
                        failure = Failure(type="NonFiniteError", message="nan", fault=fault, traceback="…")
                        broken = failed(key).model_copy(update={"config": config, "failure": failure})
                        store.write_record(broken, 1)
                        continue
                    share, n = float(scores.mean()), len(scores)
                    figure = Figure(value=share, stderr=(share * (1 - share) / (n - 1)) ** 0.5, num_examples=n)
                    figures = {"accuracy": figure}
                    store.write_record(record(key, candidate(params=size, figures=figures), config=config), 1)
                    outcomes = ExampleOutcomes(
                        loss_sums=(0.0,) * n, num_targets=(1,) * n, scores={"accuracy": tuple(map(int, scores))}
                    )
                    store.write_outcomes(key, "10", outcomes)
        return groups_by(store, "adapter.method", 0.01)[0]

    return make


def outcomes(rng: np.random.Generator, sd: float, hard: np.ndarray, mean: float = 0.85) -> np.ndarray:
    """A training's right and wrong answers: how good it turned out is its seed's luck; hard examples are so for all."""
    return rng.random(len(hard)) < np.clip(mean + sd * rng.standard_normal() + hard, 0, 1)


def judged(groups: Sequence[Group], within: float = 0.001) -> Comparison:
    return compare(groups, within=within, confidence=0.95)


def words(found: Comparison) -> str:
    return " ".join(of_methods(found, found.contrasts[0]))


@pytest.mark.slow
@pytest.mark.parametrize(("sd", "num_settings"), [(0.01, 1), (0.02, 1), (0.02, 4)])
def test_methods_that_are_equal_in_distribution_are_hardly_ever_told_apart(sd, num_settings, trained):
    rng, wrong, num_sims = np.random.default_rng(0), 0, 40
    for _ in range(num_sims):
        hard = rng.normal(0, 0.15, N)
        one, many = (
            [{seed: outcomes(rng, sd, hard) for seed in range(3)} for _ in range(n)] for n in (1, num_settings)
        )
        (contrast,) = judged(trained({"a": one, "b": many})).contrasts
        wrong += contrast.methods.verdict in ("better", "worse")
    assert wrong <= 0.07 * num_sims


def test_of_one_training_each_no_verdict_on_methods_is_given(trained):
    """However clear these adapters are."""
    rng, hard = np.random.default_rng(0), np.zeros(N)
    found = judged(trained({"a": [{0: outcomes(rng, 0, hard, 0.6)}], "b": [{0: outcomes(rng, 0, hard, 0.95)}]}))
    (contrast,) = found.contrasts
    assert (contrast.verdict, contrast.methods.verdict, contrast.methods.at) == ("better", "unknown", ())
    assert words(found) == (
        "Of b and a as methods nothing can be told: one training each. Untuned: b and a were each trained at one "
        "learning rate."
    )


def test_a_clear_difference_of_means_is_told(trained):
    rng, hard = np.random.default_rng(0), np.zeros(N)
    seeds = [{s: outcomes(rng, 0.005, hard, mean) for s in range(4)} for mean in (0.6, 0.97)]
    found = judged(trained({"a": seeds[:1], "b": seeds[1:]}))
    (contrast,) = found.contrasts
    (at,) = contrast.methods.at
    assert (contrast.methods.verdict, at.verdict, at.size) == ("better", "better", 100)
    means = [np.mean([scores.mean() for scores in one.values()]) for one in seeds]
    assert at.difference == pytest.approx(means[1] - means[0])
    assert 0 < at.low < at.difference < at.high
    assert (at.group.quality.value, at.control.quality.value) == (pytest.approx(means[1]), pytest.approx(means[0]))
    assert (
        "As methods, by their means over seeds: b is better than a with 95% confidence, up to adapter_params"
        in words(found)
    )
    assert "What is said of these adapters knows nothing of other seeds" in " ".join(notes(found))
    assert (
        "This is for seeds that vary normally: a training that goes wrong once in ten is not seen by 4 seeds in 66% of "
        "cases." in words(found)
    )
    methods = comparison_document(found, [])["comparisons"][0]["methods"]
    assert (methods["condition"]["num_seeds"], methods["fallen"]) == (4, [])
    assert (methods["verdict"], methods["sizes"][0]["seeds"]) == ("better", [4, 4])
    json.dumps(methods, allow_nan=False)


def test_a_training_that_fell_is_told(trained):
    right = [np.arange(N) < count for count in (196, 195, 194, 196, 120)]
    found = judged(trained({"a": [dict(enumerate(right[:4]))], "b": [dict(enumerate(right))]}))
    assert words(found).count("fell to") == 1
    fell = "Of the settings of b-0-0@10 1 of 5 trainings fell to 0.600 (median of the others 0.978)"
    assert fell in words(found)
    assert comparison_document(found, [])["comparisons"][0]["methods"]["fallen"] == [f"{fell}."]


def test_trainings_that_confirm_are_no_candidates_and_alone_in_the_mean(trained):
    """The chosen one was lucky, and so is the best of the fresh ones."""
    a = {seed: np.arange(N) < count for seed, count in enumerate((180, 181, 182))}
    b = {0: np.arange(N) < 190, 1: np.arange(N) < 170, 2: np.arange(N) < 195, 3: np.arange(N) < 172}
    (group, _) = trained({"a": [a], "b": [b]})
    setting = ConfirmedSetting(key="b-0-0", candidates=("10",), fresh=("b-0-1", "b-0-2", "b-0-3"))
    plan = ConfirmationPlan(
        number=0, names=("best",), settings=(setting,), against=None, seeds=(1, 2, 3), looks=(3,), within=0.01,
        confidence=0.95, asked_by="me", asked_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    group.store.write_confirmation(plan)
    found = judged(groups_by(group.store, "adapter.method", 0.01)[0])
    (contrast,) = found.contrasts
    assert [point.name for point in contrast.group.points] == ["b-0-0@10"]
    assert contrast.group.best.name == contrast.group.recommended.name == "b-0-0@10"
    (at,) = contrast.methods.at
    assert at.group.quality.value == pytest.approx((170 + 195 + 172) / 3 / N)
    assert at.group.num_failed == 0
    assert "Trainings that confirm others are no candidates: 3 of b." in " ".join(notes(found))


def test_a_confirming_training_belongs_to_the_label_of_what_it_confirms(trained):
    a, b = ({seed: np.arange(N) < 180 + seed for seed in range(3)} for _ in "ab")
    store = trained({"a": [a], "b": [b]})[0].store
    for name in "ab":
        record = store.read_record(f"{name}-0-0")
        store.write_record(record.model_copy(update={"label": name}), 1)
    settings = tuple(
        ConfirmedSetting(key=f"{name}-0-0", candidates=("10",), fresh=(f"{name}-0-1", f"{name}-0-2")) for name in "ab"
    )
    plan = ConfirmationPlan(
        number=0, names=("best",), settings=settings, against="a-0-0@10", seeds=(1, 2), looks=(2,), within=0.01,
        confidence=0.95, asked_by="me", asked_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    store.write_confirmation(plan)
    groups, left_out = groups_by(store, "label", 0.01)
    assert ([group.name for group in groups], left_out) == (["a", "b"], [])
    assert [len(group.trained) for group in groups] == [3, 3]
    # By seed, a group of nothing else has no candidate.
    with pytest.raises(ComparisonError, match="1: its trainings only confirm others; 2: its trainings only"):
        groups_by(store, "seed", 0.01)


@pytest.mark.parametrize(("fault", "told"), [("trial", False), (None, False), ("node", True)])
def test_settings_of_which_a_training_failed_by_itself_tell_nothing(fault, told, trained):
    rng, hard = np.random.default_rng(0), np.zeros(N)
    good = {s: outcomes(rng, 0.005, hard, 0.97) for s in range(3)} | {3: None}
    found = judged(trained({"a": [{s: outcomes(rng, 0.005, hard, 0.6) for s in range(3)}], "b": [good]}, fault=fault))
    assert (found.contrasts[0].methods.verdict == "better") == told
    assert ("of all settings of b that were repeated a training failed or left nothing" in words(found)) != told


def test_a_group_that_was_not_repeated_is_named_and_what_was_not_tuned_alike_is_said(trained):
    rng, hard = np.random.default_rng(0), np.zeros(N)
    several, once = {s: outcomes(rng, 0.01, hard) for s in range(3)}, {0: outcomes(rng, 0.01, hard)}
    found = judged(trained({"a": [several, once], "b": [once]}, rates=(0.1, 0.2)))
    assert "nothing can be told: one training each of b. Not tuned alike: b had one learning rate, a 2;" in words(found)
    both = judged(trained({"a": [several, once], "b": [several, once]}, rates=(0.1, 0.2)))
    assert "learning rate" not in words(both)


def test_the_best_settings_need_not_be_those_that_measured_best(trained):
    """The control's restless settings measured worse than its steady ones, and may be better than both groups'."""

    def right(*counts: int) -> dict[int, np.ndarray | None]:
        return {seed: np.arange(N) < count for seed, count in enumerate(counts)}

    steady, restless, ours = right(180, 180, 180), right(196, 176, 160), right(190, 190, 190)
    (alone,) = judged(trained({"a": [steady], "b": [ours]})).contrasts[0].methods.at
    (beside,) = judged(trained({"a": [steady, restless], "b": [ours]})).contrasts[0].methods.at
    assert (alone.verdict, beside.verdict) == ("better", "unknown")
    assert (alone.difference, beside.control_choices) == (beside.difference, 2)
    (turned,) = judged(trained({"a": [ours], "b": [steady, restless]})).contrasts[0].methods.at
    assert (turned.low, turned.high) == pytest.approx((-beside.high, -beside.low), rel=0.2)


def test_of_a_loss_on_few_examples_only_what_was_measured_is_said(store_of, record, candidate):
    def of(name: str, num: int, shift: float) -> Store:
        rng = np.random.default_rng(0)
        store = store_of(f"{name}{num}", {}, objectives={"loss": "minimize", "adapter_params": "minimize"})
        for seed in range(3):
            sums = rng.random(num) + shift
            figure = Figure(value=float(sums.mean()), stderr=0.02, num_examples=num)
            config = {"seed": seed}
            store.write_record(record(f"k{seed}", candidate(params=100, figures={"loss": figure}), config=config), 1)
            told = ExampleOutcomes(loss_sums=tuple(map(float, sums)), num_targets=(1,) * num, scores={})
            store.write_outcomes(f"k{seed}", "10", told)
        return store

    for num, is_told in ((399, False), (400, True)):
        found = judged(groups_of_stores([of("a", num, 0.5), of("b", num, 0.0)], ["a", "b"], 0.01))
        (contrast,) = found.contrasts
        assert (contrast.verdict == "better") == (contrast.methods.verdict == "better") == is_told
        text = " ".join([*of_methods(found, contrast), *of_adapters(found, contrast), *notes(found)])
        assert ("a probability takes at least 400 validation examples" in text) != is_told
        assert ("confidence" in text) == is_told
        assert ("rarer than about one in 100 examples is reckoned with" in text) == is_told
        assert (terms_of(found, contrast).said(contrast.matched[0]) == "measured") != is_told
        document = comparison_document(found, [])
        json.dumps(document, allow_nan=False)
        assert (document["comparisons"][0]["sizes"][0]["low"] is not None) == is_told
        overview(found, [])


def test_of_a_figure_that_is_no_score_only_what_was_measured_is_said(store_of, record, candidate):
    quality = "harness/wikitext/perplexity"

    def of(name: str, value: float) -> Store:
        store = store_of(name, {}, objectives={quality: "minimize", "adapter_params": "minimize"})
        figures = {quality: Figure(value=value, stderr=0.01, num_examples=1000)}
        store.write_record(record("k", candidate(params=100, figures=figures)), 1)
        return store

    found = judged(groups_of_stores([of("a", 12.0), of("b", 10.0)], ["a", "b"], 0.01))
    assert found.contrasts[0].verdict == "unknown"
    assert f"{quality} is no score from 0 to 1" in found.unproven


def test_words_never_claim_what_a_row_does_not(store_of):
    """Random fronts: the verdict on all sizes is that of each, and every row's verdict is in the words."""
    rng, seen = np.random.default_rng(0), set()
    for number in range(15):
        fronts = [
            {
                int(size): int(wrong)
                for size, wrong in zip(sizes, np.sort(rng.integers(5, 80, len(sizes)))[::-1], strict=True)
            }
            for sizes in (
                np.sort(rng.choice([10, 20, 40, 80, 160], rng.integers(1, 4), replace=False)) for _ in range(2)
            )
        ]
        pair = [store_of(f"{name}{number}", one) for name, one in zip("ab", fronts, strict=True)]
        found = compare(groups_of_stores(pair, ["a", "b"], 0.02), within=0.02, confidence=0.95)
        (contrast,) = found.contrasts
        headline, *rest = of_adapters(found, contrast)
        rows = {one.verdict for one in (*contrast.matched, *contrast.budgets)}
        seen |= {contrast.verdict}
        claims = {"b is better": "better", "b is worse": "worse", "apart with": "equal", "no difference": "unknown"}
        claimed = {verdict for claim, verdict in claims.items() if claim in headline}
        assert claimed == (rows if len(rows) == 1 else set())
        if len(rows) > 1:
            assert all(terms_of(found, contrast).said(one) in rest[0] for one in contrast.matched)
    assert seen >= {"better", "worse", "mixed"}
