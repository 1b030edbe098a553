"""Which values of a searched field went with better ones: what a made-up search shows, and what chance shows."""

import itertools

import numpy as np
import pytest

from prunedlora.results.analysis.directions import FEWEST_TRIALS, directions
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import Ask
from prunedlora.results.store import Store


@pytest.fixture
def search(tmp_path, sweep, record, candidate):
    """search([(params, accuracy, size)]): the summary of a new store of these trials, each asked for by the search."""
    folders = itertools.count()

    def make(trials):
        store = Store(str(tmp_path / str(next(folders))))
        store.create_or_open(sweep)
        for number, (params, accuracy, size) in enumerate(trials):
            store.write_record(record(f"k{number:03d}", candidate(accuracy, size)), 1)
            given = {"params": params, "distributions": dict.fromkeys(params, "{}"), "system_attrs": {}}
            store.write_ask(Ask(number=number, key=f"k{number:03d}", kind="search", **given))
        return summarize(store)

    return make


def test_a_rising_field_is_told_and_noise_is_not(search):
    rng = np.random.default_rng(0)
    trials = []
    for number in range(30):
        rate, noise = number / 1000, float(rng.random())
        trials.append(({"rate": rate, "noise": noise}, 0.5 + 10 * rate, 100))
    rising = directions(search(trials))["accuracy"]
    assert (rising["rate"].kind, rising["rate"].best) == ("higher", 2)
    assert rising["rate"].correlation > 0.99
    assert rising["rate"].text() == "higher is better, best at 0.02 to 0.029"
    assert [part.num_trials for part in rising["rate"].parts] == [10, 10, 10]
    assert rising["noise"].text() == "no direction that chance would not give too"


def test_a_peak_and_choices(search):
    values = [number / 30 for number in range(30)]
    trials = [
        ({"x": x, "kind": "svd" if i % 2 else "raw"}, 0.9 - (x - 0.5) ** 2 + 0.3 * (i % 2), 100)
        for i, x in enumerate(values)
    ]
    found = directions(search(trials))
    assert found["accuracy"]["kind"].text() == "svd is best"
    assert found["accuracy"]["kind"].correlation is None
    peak = directions(search([({"x": x}, 0.9 - (x - 0.5) ** 2, 100 * (i + 1)) for i, x in enumerate(values)]))
    assert peak["accuracy"]["x"].kind == "peak"
    assert peak["accuracy"]["x"].text().startswith("best at 0.33")
    # Smaller is better: the field that makes adapters larger is better low.
    assert peak["adapter_params"]["x"].kind == "lower"
    assert peak["adapter_params"]["x"].parts[0].mean < peak["adapter_params"]["x"].parts[2].mean


def test_few_trials_tell_nothing_and_chance_alone_seldom(search):
    few = directions(search([({"x": i / 9}, i / 9, 100) for i in range(FEWEST_TRIALS - 1)]))
    assert few["accuracy"]["x"].text() == f"too few trials to tell: it takes {FEWEST_TRIALS}"
    rng = np.random.default_rng(1)
    fields = [f"f{number}" for number in range(200)]
    trials = [({name: float(rng.random()) for name in fields}, float(rng.random()), 100) for _ in range(12)]
    found = directions(search(trials))["accuracy"].values()
    told = sum(one.best is not None for one in found)
    assert told <= 2 * 2 * 0.05 * len(fields)  # two tests each at 5 %, and twice that for chance


def test_without_a_search_there_are_none(fill, record):
    assert directions(summarize(fill(record()))) == {}
