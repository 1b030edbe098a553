"""What a plan and records tell: means of fresh seeds alone, failures, test figures, and that no answer changes."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from prunedlora.results.analysis.confirmation import Confirmation, confirmation
from prunedlora.results.analysis.confirmation_document import confirmation_documents
from prunedlora.results.analysis.confirmation_text import confirmation_sentences, fresh_sentences, fresh_text
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.summary import Summary, summarize
from prunedlora.results.ask import ConfirmationPlan, ConfirmedSetting
from prunedlora.results.record import ExampleOutcomes, Figure, RecordError, TrialRecord
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store

Fill = Callable[..., Store]
Make = Callable[..., Any]
NUM = 400


def plan_of(**changes: Any) -> ConfirmationPlan:
    fields: dict[str, Any] = {
        "number": 0,
        "names": ("recommended", "best"),
        "settings": (
            ConfirmedSetting(key="small", candidates=("10",), fresh=("s1", "s2", "s3", "s4")),
            ConfirmedSetting(key="large", candidates=("10",), fresh=("l1", "l2", "l3", "l4")),
        ),
        "against": "large@10",
        "seeds": (1, 2, 3, 4),
        "looks": (2, 4),
        "within": 0.05,
        "confidence": 0.9,
        "asked_by": "me@here",
        "asked_at": "2026-01-01T00:00:00+00:00",
    }
    return ConfirmationPlan(**(fields | changes))


def put_outcomes(store: Store, *records: TrialRecord) -> None:
    """Right on the first examples, so that a better one is right wherever a worse one is."""
    for record in records:
        for candidate in record.candidates:
            right = round(candidate.figures["accuracy"].value * NUM)
            scores = {"accuracy": (1.0,) * right + (0.0,) * (NUM - right)}
            outcomes = ExampleOutcomes(loss_sums=(1.0,) * NUM, num_targets=(1,) * NUM, scores=scores)
            store.write_outcomes(record.key, candidate.name, outcomes)


@pytest.fixture
def known(fill: Fill, record: Make, candidate: Make) -> Callable[..., Summary]:
    """known(*further records): a store with a small adapter, a large one that measured best, and a plan."""

    def known(*further: TrialRecord, **changes: Any) -> Summary:
        first = [record("small", candidate(0.90, 50)), record("large", candidate(0.905, 500))]
        store = fill(*first, *further)
        put_outcomes(store, *first, *further)
        store.write_confirmation(plan_of(**changes))
        return summarize(store)

    return known


def found_in(summary: Summary) -> Confirmation:
    [found] = summary.confirmations
    return found


def test_means_are_of_fresh_seeds_alone(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    further = [
        record("s1", candidate(0.87, 50)), record("s2", candidate(0.871, 50)),
        record("l1", candidate(0.88, 500)), record("l2", candidate(0.881, 500)),
    ]  # fmt: skip
    summary = known(*further, looks=(4,), within=0.01)
    found = found_in(summary)
    small, large = found.results
    assert (small.chosen.value, small.mean, small.num_ended) == (0.90, pytest.approx(0.8705), 2)
    assert small.stderr == pytest.approx(0.0005)
    assert large.statement is None
    assert small.statement is not None
    assert (small.statement.verdict, small.statement.num_seeds) == ("open", 4)
    assert not found.is_over
    assert found.wanted() == ["s1", "l1", "s2", "l2", "s3", "l3", "s4", "l4"]
    assert fresh_text(small) == "0.871 ± 0.001 over 2 fresh seeds"  # half to even: 0.8705
    assert "Open: 4 trainings of each are to tell." in confirmation_sentences([found], summary.objectives)[0]


def test_the_first_look_that_tells_ends_it(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    """And it is told for what it was compared with, at the margin that was planned."""
    bad = [record(f"s{n}", candidate(0.4 + n / 1000, 50)) for n in (1, 2)]
    good = [record(f"l{n}", candidate(0.9 + n / 1000, 500)) for n in (1, 2)]
    summary = known(*bad, *good)
    found = found_in(summary)
    assert found.is_over
    assert found.wanted() == ["s1", "l1", "s2", "l2"]
    assert confirmation_sentences([found], summary.objectives) == [
        "small@10: accuracy 0.402 ± 0.001 over 2 fresh seeds, chosen at 0.900. "
        "Refuted: more than 0.05 worse than large@10 (90%, for seeds that vary normally: a training that goes wrong "
        "once in ten is not seen by 2 seeds in 81% of cases).",
        "large@10: accuracy 0.901 ± 0.001 over 2 fresh seeds, chosen at 0.905. With it the others are compared.",
    ]
    assert found.caveats == ()
    (whole,) = confirmation_documents([found], summary.objectives)
    assert [each["num_failed"] for each in whole["settings"]] == [0, 0]
    assert whole["settings"][0]["mean"] == pytest.approx(0.4015)
    assert whole["settings"][1]["stderr"] == pytest.approx(0.0005)
    assert len(whole["settings"][1]["values"]) == 2
    assert (whole["looks"], whole["seeds"], whole["is_over"]) == ([2, 4], [1, 2, 3, 4], True)
    assert whole["sentences"] == confirmation_sentences([found], summary.objectives)
    (document,) = whole["contrasts"]
    assert (document["against"], document["look"], document["confidence"]) == ("large@10", 2, 0.9)
    assert document["low"] < document["better_by"] < document["high"] < -0.05
    assert (document["candidate"], document["verdict"]) == ("small@10", "refuted")
    assert document["condition"] == {
        "assumed": "seeds vary normally",
        "num_seeds": 2,
        "one_in_ten_not_seen": pytest.approx(0.81),
    }


def test_what_is_not_told_says_what_would_tell(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    """And whoever asks for the one that it is compared with is told of it too."""
    values = {"s": (0.80, 0.90, 0.84, 0.88), "l": (0.90, 0.91, 0.90, 0.91)}
    fresh = [record(f"{k}{n}", candidate(v, 50)) for k, own in values.items() for n, v in enumerate(own, start=1)]
    summary = known(*fresh, looks=(4,))
    found = found_in(summary)
    sentence = confirmation_sentences([found], summary.objectives)[0]
    [contrast] = confirmation_documents([found], summary.objectives)[0]["contrasts"]
    assert (contrast["verdict"], contrast["seeds_needed"]) == ("not told", None)
    assert f"at most {-contrast['low']:.3f} worse and at " in sentence
    assert "100 trainings of each would hardly tell" in sentence  # 0.05 worse at the margin of 0.05
    [large, small] = fresh_sentences([found], "large@10", summary.objectives)
    assert large.endswith("With it the others are compared.")
    assert small == sentence
    narrower = plan_of(looks=(4,), within=0.02)
    found = confirmation(summary.store, summary.records, summary.objectives, narrower)
    [contrast] = confirmation_documents([found], summary.objectives)[0]["contrasts"]
    sentence = confirmation_sentences([found], summary.objectives)[0]
    assert contrast["seeds_needed"] > 4
    assert f"about {contrast['seeds_needed']} fresh trainings of each would: --seeds " in sentence


def test_a_training_that_fell_is_told(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    small = [record(f"s{n}", candidate(value, 50)) for n, value in enumerate((0.9, 0.901, 0.902, 0.6), start=1)]
    large = [record(f"l{n}", candidate(0.9 + n / 1000, 500)) for n in (1, 2, 3, 4)]
    found = found_in(known(*small, *large, looks=(4,)))
    of_small, of_large = confirmation_sentences([found], Objectives("accuracy", True, "adapter_params"))
    assert "1 of 4 trainings fell to 0.600 (median of the others 0.901)" in of_small
    assert "fell" not in of_large


@pytest.mark.parametrize(
    ("quality", "num", "why"),
    [
        ("loss", 399, "takes at least 400 validation examples of a loss"),
        ("loss", 400, ""),
        ("bare loss", 400, "nothing is proven without outcomes by example"),
        ("harness/wikitext/perplexity", 400, "is no score from 0 to 1"),
    ],
)
def test_where_no_probability_can_be_given_it_tells_what_was_measured(
    fill: Fill, record: Make, candidate: Make, quality: str, num: int, why: str
) -> None:
    """By the rule that the decision goes by, and without more trainings than the first look takes."""
    quality, bare = quality.removeprefix("bare "), quality.startswith("bare")
    store = fill(objectives={quality: "minimize", "adapter_params": "minimize"})
    rng = np.random.default_rng(0)
    common = rng.random(num)
    for key in ("small", "large", *(f"{name}{n}" for name in "sl" for n in (1, 2, 3, 4))):
        sums = common + 0.001 * rng.random(num) + (3.0 if key[0] == "s" else 2.0)
        figure = Figure(value=float(sums.mean()), stderr=0.01, num_examples=num)
        store.write_record(record(key, candidate(figures={quality: figure})), 1)
        if not bare:
            told = ExampleOutcomes(loss_sums=tuple(map(float, sums)), num_targets=(1,) * num, scores={})
            store.write_outcomes(key, "10", told)
    store.write_confirmation(plan_of(within=0.1))
    summary = summarize(store)
    found = found_in(summary)
    statement = found.results[0].statement
    assert statement is not None
    assert (statement.verdict, statement.num_seeds) == ("measured" if why else "refuted", 2)
    assert found.is_over
    [sentence, _] = confirmation_sentences([found], summary.objectives)
    [document] = confirmation_documents([found], summary.objectives)[0]["contrasts"]
    if why:
        assert why in found.unproven
        assert "Measured 1.000 worse than large@10; whether it is so is not said: " in sentence
        assert why in sentence
        assert "90%" not in sentence
        assert confirmation_documents([found], summary.objectives)[0]["unproven"] == found.unproven
        assert (document["low"], document["condition"]) == (None, None)
    else:
        assert "Refuted" in sentence
        assert found.caveats == (
            "No cost that is rarer than about one in 100 examples is reckoned with: 400 validation examples need not "
            "show it.",
        )


def test_of_a_loss_one_rare_example_is_reckoned_with(fill: Fill, record: Make, candidate: Make) -> None:
    """What cost one of the trainings dear may cost each: without it the same differences would be told."""

    def verdict(dear: float) -> str:
        store = fill(objectives={"loss": "minimize", "adapter_params": "minimize"})
        rng, common = np.random.default_rng(0), np.random.default_rng(1).random(400)
        for key in ("small", "large", *(f"{name}{n}" for name in "sl" for n in (1, 2, 3, 4))):
            sums = common + 0.0001 * rng.random(400)
            sums[:2] += dear if key[0] == "s" else 0.0
            figure = Figure(value=float(sums.mean()), stderr=0.01, num_examples=400)
            store.write_record(record(key, candidate(figures={"loss": figure})), 1)
            told = ExampleOutcomes(loss_sums=tuple(map(float, sums)), num_targets=(1,) * 400, scores={})
            store.write_outcomes(key, "10", told)
        store.write_confirmation(plan_of(within=0.07))
        statement = found_in(summarize(store)).results[0].statement
        assert statement is not None
        return statement.verdict

    assert (verdict(0.0), verdict(5.0)) == ("confirmed", "not told")


def test_fresh_trainings_are_no_candidates(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    """However good: the best of more draws of one lottery is luckier still."""
    lucky = record("s1", candidate(0.99, 40))
    summary = known(lucky)
    assert [point.name for point in summary.points] == ["large@10", "small@10"]
    assert {each.key for each in summary.records} == {"large", "s1", "small"}
    assert summary.recommended is not None
    assert summary.recommended.name == "small@10"
    decision = decide(summary)
    assert decision is not None
    assert (decision.recommended.point.name, decision.best.point.name) == ("small@10", "large@10")


def test_failures_and_what_was_not_measured(
    known: Callable[..., Summary], record: Make, candidate: Make, failed: Make
) -> None:
    good = [record(f"l{n}", candidate(0.9, 500)) for n in (1, 2)]
    summary = known(record("s1", candidate(0.9, 50)), failed("s2", message="loss is nan"), *good)
    [small, _] = confirmation_sentences([found_in(summary)], summary.objectives)
    assert small == (
        "small@10: accuracy 0.900 over 1 fresh seed, chosen at 0.900, 1 of 2 fresh trainings failed "
        "(NonFiniteLossError: loss is nan). Not confirmed: a fresh training of it failed."
    )
    assert found_in(summary).is_over
    assert fresh_sentences(summary.confirmations, "small@10", summary.objectives) == [f"Trained again: {small}"]
    assert fresh_sentences(summary.confirmations, "other@10", summary.objectives) == []


def test_a_cut_that_was_passed_over_is_no_failure(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    good = [record(f"l{n}", candidate(0.9, 500)) for n in (1, 2)]
    summary = known(record("s1", candidate(0.9, 50)), record("s2", candidate(0.9, 50, step=9)), *good)
    [small, _] = confirmation_sentences([found_in(summary)], summary.objectives)
    assert "1 of 2 did not measure it (a smaller one beat it in loss, or it was passed over). Not told" in small


def test_test_figures_are_told_and_decide_nothing(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    summary = known(record("s1", candidate(0.9, 50)), record("s2", candidate(0.9, 50)))
    for key, value in (("s1", 0.1), ("s2", 0.3)):
        figures = {"accuracy": {"value": value, "stderr": None, "num_examples": 9}}
        text = json.dumps({"figures": figures, "certificate": {}})
        summary.store.storage.write_text(f"trials/{key}/adapters/10/test.json", text)
    found = confirmation(summary.store, summary.records, summary.objectives, summary.plans[0])
    assert found.results[0].test_mean == (pytest.approx(0.2), pytest.approx(0.1))
    assert ", test 0.200 ± 0.100. " in confirmation_sentences([found], summary.objectives)[0]
    assert found.results[0].statement == found_in(summary).results[0].statement


def test_a_plan_is_never_edited(fill: Fill) -> None:
    store = fill()
    store.write_confirmation(plan_of())
    with pytest.raises(StoreError, match=r"confirmations/000000.json is there already"):
        store.write_confirmation(plan_of(within=0.1))
    assert store.confirmations() == [plan_of()]
    store.storage.write_text("confirmations/000001.json", "{")
    with pytest.raises(RecordError, match=r"confirmations/000001.json: not JSON"):
        store.confirmations()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"looks": (4, 2)}, r"looks \(4, 2\) do not rise to the 4 seeds"),
        ({"looks": (2,)}, r"looks \(2,\) do not rise to the 4 seeds"),
        ({"seeds": (1, 2), "looks": (2,)}, r"a training for each of the 2 seeds"),
        ({"against": "other@10"}, r"other@10 is none of them"),
    ],
)
def test_a_plan_that_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        plan_of(**changes)


def test_the_terminal_tells_it(known: Callable[..., Summary], record: Make, candidate: Make) -> None:
    from typer.testing import CliRunner

    from prunedlora.cli import app

    summary = known(record("s1", candidate(0.9, 50)))
    done = CliRunner().invoke(app, ["recommend", summary.store.uri])
    assert "Trained again: small@10: accuracy 0.900 over 1 fresh seed" in " ".join(done.output.split()), done.output
