"""What a decision may name is kept, and the rest is not: by asking everything, with all files and with those kept."""

import itertools
import random

import numpy as np
import pytest

from prunedlora.results.analysis.constraints import Constraints, RequestError
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.nameable import nameable
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import ExampleOutcomes, Figure
from prunedlora.sizes import SIZES
from tests.decoder_sizes import WIDTHS, candidate_fields, random_ranks

N = 100
ASKED = list(itertools.product((0.0, 0.01, 0.03, 0.1, 0.4), (0.5, 0.95, 0.999)))
LIMITS = [Constraints(), Constraints(max_params=500), Constraints(max_rank=4), Constraints(max_bytes=1500, max_rank=16)]


def answers(store, axis):
    summary = summarize(store, size=axis)
    names = {}
    for constraints, (within, confidence) in itertools.product(LIMITS, ASKED):
        try:
            found = decide(summary, within=within, confidence=confidence, constraints=constraints, num_draws=100)
        except RequestError:
            continue
        told = [one for choice in found.choices for one in (choice.standing, choice.proven)]
        names[constraints, within, confidence] = tuple(None if one is None else one.point.name for one in told)
    return names


@pytest.mark.parametrize("seed", range(2))
def test_nothing_that_goes_is_ever_named(seed, fill, record, candidate):
    rng = np.random.default_rng(seed)
    difficulty, records, outcomes = rng.normal(size=N), [], []
    for number in range(14):
        rank = int(rng.choice([2, 4, 8, 16]))
        params = int(rank * rng.choice([50, 100]))
        right = (difficulty + rng.normal(size=N) < rng.choice([-2.0, 0.0, 1.0, 1.2])).astype(int)
        figure = Figure(value=float(right.mean()), stderr=float(right.std(ddof=1) / N**0.5), num_examples=N)
        made = candidate(params=params, max_rank=rank, served_slot=max(rank, 8), figures={"accuracy": figure})
        records.append(record(f"k{number}", made))
        scores = {"accuracy": tuple(right.tolist())}
        outcomes.append(ExampleOutcomes(loss_sums=(0.0,) * N, num_targets=(1,) * N, scores=scores))
    store = fill(*records)
    for each, one in zip(records, outcomes, strict=True):
        store.write_outcomes(each.key, "10", one)
    axes = ("adapter_params", "max_rank")
    assert {*axes} <= {*SIZES}
    before = {axis: answers(store, axis) for axis in axes}
    kept = nameable(summarize(store))
    assert len(kept) < len(records)
    named = {name for found in before.values() for told in found.values() for name in told if name is not None}
    assert named <= kept
    for each in records:
        if f"{each.key}@10" not in kept:
            bare = each.candidates[0].model_copy(update={"adapter_path": None})
            store.write_record(each.model_copy(update={"candidates": (bare,)}), 1)
    assert {axis: answers(store, axis) for axis in axes} == before
    assert nameable(summarize(store)) == kept


def test_a_larger_and_worse_one_may_be_the_smallest_that_is_proven(fill, record, candidate):
    """It errs where the best errs; the smaller and better one errs elsewhere, and is known less well for it."""
    wrong = {"best": range(20), "larger": range(23), "smaller": range(60, 82)}
    records = {}
    for params, (name, places) in zip((1000, 500, 400), wrong.items(), strict=True):
        share = 1 - len(places) / 400
        figure = Figure(value=share, stderr=(share * (1 - share) / 399) ** 0.5, num_examples=400)
        records[name] = record(name, candidate(params=params, figures={"accuracy": figure}))
    store = fill(*records.values())
    for name, places in wrong.items():
        right = tuple(int(place not in places) for place in range(400))
        scores = ExampleOutcomes(loss_sums=(0.0,) * 400, num_targets=(1,) * 400, scores={"accuracy": right})
        store.write_outcomes(name, "10", scores)
    summary = summarize(store)
    found = decide(summary)
    bound = found.standings["larger@10"].bound
    assert bound < found.standings["smaller@10"].bound
    assert decide(summary, within=bound).proven.point.name == "larger@10"
    assert "larger@10" in nameable(summary)


def test_one_whose_error_is_not_known_beats_nothing(fill, record, candidate):
    best = candidate(params=10, figures={"accuracy": Figure(value=1.0, num_examples=1)})
    other = candidate(params=20, figures={"accuracy": Figure(value=0.1, stderr=0.01, num_examples=400)})
    assert nameable(summarize(fill(record("a", best), record("b", other)))) == {"a@10", "b@10"}


def test_nothing_is_nameable_where_there_is_no_file(fill, record, candidate):
    assert nameable(summarize(fill(record("a", candidate(adapter_path=None))))) == frozenset()


def test_nothing_that_goes_is_named_for_servers_that_are_asked_for_later(fill, record, candidate):
    """The sweep has none, and what is small as trained may be large in the form that a server needs."""
    rng, records = random.Random(3), []
    for number in range(24):
        figure = Figure(value=rng.choice([0.5, 0.7, 0.9]), stderr=0.005, num_examples=400)
        made = candidate(figures={"accuracy": figure}, **candidate_fields(random_ranks(rng)))
        records.append(record(f"k{number:02}", made, layer_widths=WIDTHS))
    store = fill(*records)
    asked = [["vllm"], ["sglang"], ["lorax", "vllm"], ["tensorrt-llm"], []]
    named = []
    for serve_on, axis in itertools.product(asked, ("adapter_params", "max_rank")):
        decision = decide(summarize(store, size=axis, serve_on=serve_on), num_draws=50)
        named.append([one.point.name for choice in decision.choices for one in (choice.standing, choice.proven) if one])
    kept = nameable(summarize(store))
    assert kept == nameable(summarize(store, serve_on=["sglang"]))  # what a sweep's own servers refuse is kept too
    assert {name for names in named for name in names} <= kept
    assert len(kept) < len(records)
    assert len({names[0] for names in named}) > 1
