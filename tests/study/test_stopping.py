"""The stopping rule: cases by hand, laws over random runs, and the rule said anew in the plainest way."""

import doctest
import json
import math
import random
import re

import numpy
import pytest

from prunedlora.study import stopping
from prunedlora.study.stopping import verdict
from prunedlora.study.stopping_looks import Run


def run(size: float, figure: object, **more: object) -> Run:
    return {"sizes": [size], "figures": {0.1: figure}, **more}  # type: ignore[typeddict-item]


def test_the_example_of_the_docstring_gives_what_it_says() -> None:
    assert doctest.testmod(stopping) == doctest.TestResults(failed=0, attempted=5)


def test_runs_as_json_has_them_are_judged_alike() -> None:
    runs = {"a": run(10, 1.0, errors={0.1: 0.2}), "b": run(10, 0.5, errors={0.1: 0.2})}
    assert verdict(json.loads(json.dumps(runs)), "a", 0.1) == verdict(runs, "a", 0.1)
    assert verdict(runs, "a", 0.1, quota=0).stops


def test_a_larger_peer_beats_nobody() -> None:
    runs = {"a": run(1000, 5.0), **{f"p{i}": run(1500 + i, 0.1) for i in range(5)}}
    assert verdict(runs, "a", 0.1, quota=0) == stopping.Verdict(False, {}, None, {f"p{i}": 0.1 for i in range(5)})


def test_every_size_ahead_must_be_beaten() -> None:
    ladder: Run = {"sizes": [8000, 2000, 500], "at": [0.05, 0.5, 1.0], "figures": {0.1: 1.0}}
    runs: dict[str, Run] = {"ladder": ladder, "middle": run(1000, 0.5)}
    open_end = verdict(runs, "ladder", 0.1, quota=0)
    assert not open_end.stops
    assert open_end.beaten_by == {2000.0: "middle"}
    runs["small"] = run(500, 0.7)
    beaten = verdict(runs, "ladder", 0.1, quota=0)
    assert beaten.stops
    assert beaten.beaten_by == {2000.0: "middle", 500.0: "small"}
    # 8,000 lies behind it and makes no difference.
    assert not verdict({"ladder": ladder, "large": run(8000, 0.1)}, "ladder", 0.1, quota=0).beaten_by


def test_a_run_at_its_end_never_stops() -> None:
    runs: dict[str, Run] = {"a": {"sizes": [10], "figures": {1.0: 9.0}}, "b": {"sizes": [5], "figures": {1.0: 1.0}}}
    assert not verdict(runs, "a", 1.0, quota=0).stops


def test_a_run_without_sizes_neither_stops_nor_beats() -> None:
    full: Run = {"sizes": [], "figures": {0.1: 0.0}}
    assert not verdict({"a": run(9, 1.0), "full": full}, "a", 0.1, quota=0).stops
    assert not verdict({"a": run(9, -1.0), "full": full}, "full", 0.1, quota=0).stops


def test_only_what_an_ended_peer_reached_counts() -> None:
    peer: Run = {"sizes": [900, 100], "at": [0.1, 1.0], "figures": {0.1: 0.1}, "ended": 0.1}
    large = verdict({"a": run(1000, 1.0), "peer": peer}, "a", 0.1, quota=0)
    small = verdict({"a": run(200, 1.0), "peer": peer}, "a", 0.1, quota=0)
    assert large.stops
    assert not small.stops
    failed: Run = {"sizes": [100], "figures": {0.1: 0.1}, "ended": 0.5}
    assert not verdict({"a": run(200, 1.0), "failed": failed}, "a", 0.1, quota=0).peers


def test_an_ended_peer_takes_no_place_of_the_best_two() -> None:
    runs = {"a": run(1100, 3.0), "small": run(10, 0.1), "b": run(1100, 1.0), "c": run(1100, 2.0, ended=0.2)}
    assert verdict(runs, "a", 0.1).spared == "1024 to 2048"
    runs["c"] = run(1100, 2.0)
    assert verdict(runs, "a", 0.1).stops


def test_the_best_two_of_a_band_go_on() -> None:
    runs = {f"r{i}": run(1030 + i, 1.0 + i) for i in range(6)} | {"small": run(4, 0.0)}
    assert [name for name in runs if not verdict(runs, name, 0.1).stops] == ["r0", "r1", "small"]
    assert [name for name in runs if not verdict(runs, name, 0.1, quota=3).stops] == ["r0", "r1", "r2", "small"]
    assert verdict(runs, "r1", 0.1).spared == "1024 to 2048"
    # Nobody needs to be spared who is not beaten.
    assert verdict(runs, "small", 0.1).spared is None


def test_bands_are_half_open_powers_of_two() -> None:
    runs = {"a": run(2048, 3.0), "b": run(2047, 1.0), "c": run(1024, 2.0), "small": run(4, 0.0)}
    assert verdict(runs, "a", 0.1).spared == "2048 to 4096"
    runs["a"] = run(2047.9, 3.0)
    assert verdict(runs, "a", 0.1).stops


def test_runs_that_are_alike_go_on_together() -> None:
    tied = {f"r{i}": run(1030, 1.0) for i in range(5)}
    assert not any(verdict(tied, name, 0.1, margin=0).stops for name in tied)
    assert not any(verdict(tied | {"small": run(4, 0.0)}, name, 0.1, margin=0).stops for name in tied)


def test_by_the_margin_means_by_more() -> None:
    runs = {"a": run(10, 1.0), "b": run(10, 0.75)}
    assert not verdict(runs, "a", 0.1, margin=0.25, quota=0).stops
    assert verdict(runs, "a", 0.1, margin=0.2499, quota=0).stops
    assert stopping.MARGIN == 0.01


def test_standard_errors_are_of_both_figures() -> None:
    runs = {"a": run(10, 1.0, errors={0.1: 0.3}), "b": run(10, 0.5, errors={0.1: 0.4})}
    assert not verdict(runs, "a", 0.1, quota=0, num_errors=1.0).stops
    assert verdict(runs, "a", 0.1, quota=0, num_errors=0.99).stops
    runs["b"] = run(10, 0.5)
    assert verdict(runs, "a", 0.1, quota=0, num_errors=1.6).stops
    assert not verdict(runs, "a", 0.1, quota=0, num_errors=1.7).stops


def test_outcomes_are_paired() -> None:
    # Large errors by themselves, a clear difference example by example.
    some = [0.0, 5.0, 10.0, 15.0]
    less = [-0.1, 4.85, 9.9, 14.85]
    runs = {
        "a": run(10, 7.5, errors={0.1: 3.2}, outcomes={0.1: some}),
        "b": run(10, 7.375, errors={0.1: 3.2}, outcomes={0.1: less}),
    }
    apart = numpy.subtract(some, less)
    reach = apart.mean() / (apart.std(ddof=1) / 2)
    assert verdict(runs, "a", 0.1, quota=0, num_errors=reach * 0.999).stops
    assert not verdict(runs, "a", 0.1, quota=0, num_errors=reach * 1.001).stops
    del runs["b"]["outcomes"]
    assert not verdict(runs, "a", 0.1, quota=0, num_errors=1.0).stops


def test_where_there_is_no_equal_share_the_line_between_a_peers_figures_tells() -> None:
    def peers(figures: dict[float, float], removals: tuple[float, ...] = (), **settings: float) -> dict[str, float]:
        peer: Run = {"sizes": [10], "figures": figures, "removals": removals}
        own: Run = {"sizes": [10], "figures": {0.1: 1.0, 0.3: 0.0}, "removals": removals}
        return dict(verdict({"a": own, "b": peer}, "a", 0.1, quota=0, **settings).peers)  # type: ignore[arg-type]

    assert peers({0.1 + 1e-12: 0.5, 0.11: 0.0}) == {"b": 0.5}
    assert peers({0.05: 9.0, 0.09: 0.8, 0.11: 0.4, 0.2: 0.0}) == {"b": pytest.approx(0.6)}
    assert peers({0.095: 0.8, 0.11: 0.5}) == {"b": pytest.approx(0.7)}
    # The earlier one alone stands for what came after it; a later one, or one too far away, does not.
    assert peers({0.09: 0.8}) == {"b": 0.8} == peers({0.09: 0.8, 0.13: 0.4})
    assert peers({0.11: 0.4}) == peers({0.07: 0.8, 0.11: 0.4}) == peers({0.07: 0.8}) == {}
    assert peers({0.07: 0.8, 0.13: 0.4}, tolerance=0.03) == {"b": pytest.approx(0.6)}
    # No line leads across a removal.
    assert peers({0.09: 0.8, 0.11: 0.4}, (0.105,)) == {"b": 0.8}
    assert peers({0.09: 0.8, 0.11: 0.4}, (0.095,)) == {}


def test_runs_of_one_steep_curve_that_are_looked_at_apart_go_on_together() -> None:
    """Losses 10·exp(−20 share), of runs of many lengths, with looks at the nearest steps."""
    runs: dict[str, Run] = {}
    for number, steps in enumerate((31, 97, 100, 103, 117, 125, 1000)):
        shares = [round(share * steps) / steps for share in (0.08, 0.1, 0.12)]
        runs[f"r{number}"] = run(10 + number / 10, 0.0, figures={each: 10 * math.exp(-20 * each) for each in shares})
    num_compared = 0
    for name, each in runs.items():
        for share in each["figures"]:
            found = verdict(runs, name, share, margin=0.0, quota=0)
            num_compared += len(found.peers)
            assert not found.beaten_by
    assert num_compared > 60


def test_on_a_line_errors_are_the_larger_ones_and_outcomes_the_lines() -> None:
    peer = run(10, 0.0, figures={0.09: 0.8, 0.11: 0.4}, errors={0.09: 0.3, 0.11: 0.1})
    runs = {"a": run(10, 1.0), "b": peer}
    assert verdict(runs, "a", 0.1, quota=0, num_errors=1.3).stops
    assert not verdict(runs, "a", 0.1, quota=0, num_errors=1.34).stops
    runs["a"] = run(10, 1.0, outcomes={0.1: [0.5, 1.0, 1.5]})
    peer["outcomes"] = {0.09: [0.2, 0.8, 1.4], 0.11: [0.0, 0.4, 0.8]}
    # 0.4 above the line's 0.1, 0.6 and 1.1 on each.
    assert verdict(runs, "a", 0.1, quota=0, num_errors=1e6).stops


def test_one_bad_peer_refuses_nobody_elses_judgement() -> None:
    runs = {"a": run(10, 1.0, outcomes={0.1: [0.9, 1.1]}), "good": run(10, 0.5, outcomes={0.1: [0.4, 0.6]})}
    before = verdict(runs, "a", 0.1, quota=1)
    assert before.stops
    bad = {
        "nan": run(10, math.nan),
        "null": run(10, 0.1, figures={0.1: None}),
        "inf": run(10, -math.inf),
        "size 0": run(0, 0.1),
        "null size": {"sizes": None, "figures": {0.1: 0.1}},
        "three": run(10, 0.1, outcomes={0.1: [0.0, 0.1, 0.2]}),
        "one": run(10, 0.1, outcomes={0.1: [0.1]}),
        "text": run(10, 0.1, figures={"early": 0.1}),
        "error": run(10, 0.1, errors={0.1: math.nan}),
    }
    after = verdict(runs | bad, "a", 0.1, quota=1)  # type: ignore[arg-type]
    assert (after.stops, after.beaten_by, after.peers) == (True, before.beaten_by, before.peers)
    assert after.unusable.keys() == bad.keys()
    for name, why in after.unusable.items():
        assert f"run {name!r} has " in why


def test_a_run_that_diverged_stops() -> None:
    for figure in (math.nan, math.inf, None):
        own: Run = {"sizes": [90, 10], "at": [0.05, 1.0], "figures": {0.1: figure}}
        found = verdict({"a": own, "worst": run(10, 99.0)}, "a", 0.1)
        assert (found.stops, found.beaten_by) == (True, {10.0: "a figure that is not finite"})
        assert not verdict({"a": {**own, "at": [0.05, 0.1]}}, "a", 0.1).stops  # it has nothing ahead


@pytest.mark.parametrize(
    ("own", "other", "compared"),
    [
        ([], [], True),
        ([0.7], [0.8], True),  # both to come
        ([0.4], [], False),
        ([], [0.4], False),
        ([0.4], [0.3], False),
        ([0.4], [0.41], True),
        ([0.1, 0.4], [0.4], True),  # the last one counts
        ([0.5], [0.5], True),  # at the very share: made before it
        ([0.5], [], False),
    ],
)
def test_only_runs_as_far_from_a_removal_are_compared(own: list[float], other: list[float], compared: bool) -> None:
    runs: dict[str, Run] = {
        "a": {"sizes": [10], "figures": {0.5: 1.0}, "removals": own},
        "b": {"sizes": [10], "figures": {0.5: 0.0}, "removals": other},
    }
    assert verdict(runs, "a", 0.5, quota=0).stops is compared


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "run 'a' is not among the runs: there are none"),
        ({"b": run(1, 1)}, "run 'a' is not among the runs: 'b'"),
        ({"a": {"sizes": [1], "figures": {0.3: 1.0}}}, "run 'a' has no figure at share 0.1 of its steps, only at: 0.3"),
        ({"a": run(1, "low")}, "run 'a' has a figure of 'low', which is no number"),
        ({"a": run(1, 1.0, figures=[1.0])}, "run 'a' has figures [1.0]; they are a mapping from shares of its steps"),
        ({"a": run(1, 1.0, figures={"early": 1.0})}, "run 'a' has figures at 'early', which is no number"),
        ({"a": run(1, 1.0, sizes="12")}, "run 'a' has sizes '12'; they are a list"),
        ({"a": run(1, 1.0, sizes=12)}, "run 'a' has sizes 12; they are a list"),
        ({"a": run(1, 1.0, errors={0.1: math.inf})}, "run 'a' has a standard error of inf"),
        ({"a": run(1, 1.0, outcomes={0.1: [1.0, math.nan]})}, "run 'a' has an outcome of nan"),
        ({"a": run(0, 1.0)}, "run 'a' has a planned size of 0; sizes are finite and above 0"),
        ({"a": run(1, 1.0, at=[0.5, 1.0])}, "run 'a' has 1 sizes, but 2 shares in `at`"),
        ({"a": {"sizes": [1], "figures": {500: 1.0}}}, "run 'a' has figures at 500, which is no share of its steps"),
        ({"a": run(1, 1.0, removals=[30])}, "run 'a' has removals at 30"),
        ({"a": run(1, 1.0, ended=2)}, "run 'a' has ended at 2"),
        (
            {"a": run(1, 1.0, outcomes={0.1: [1]})},
            "run 'a' has outcomes of 1 examples; to be paired they are a list of",
        ),
    ],
)
def test_bad_runs_are_named(runs: dict[str, Run], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        verdict(runs, "a", 0.1)


@pytest.mark.parametrize("name", ["margin", "num_errors", "quota", "tolerance"])
def test_settings_below_zero_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} -1 is not a number from 0 up"):
        verdict({"a": run(1, 1)}, "a", 0.1, **{name: -1})


def some_runs(draw: random.Random) -> dict[str, Run]:
    """Ladders and single sizes; figures on a coarse grid, so that there are ties."""
    runs: dict[str, Run] = {}
    for number in range(draw.randint(1, 12)):
        count = draw.choice([1, 1, 3])
        sizes = sorted((draw.choice([3, 8, 20, 30, 50, 64]) for _ in range(count)), reverse=True)
        made: Run = {"sizes": sizes, "figures": {0.1: draw.randint(0, 8) / 10}}
        if count > 1:
            made["at"] = sorted(draw.choice([0.05, 0.1, 0.4, 1.0]) for _ in sizes)
        if draw.random() < 0.3:
            made["removals"] = [draw.choice([0.02, 0.07, 0.1, 0.5])]
        if number and draw.random() < 0.2:
            made["ended"] = draw.choice([0.1, 0.5])
        if draw.random() < 0.3:
            made["errors"] = {0.1: draw.choice([0.0, 0.15])}
        runs[f"r{number}"] = made
    return runs


def plain_rule(runs: dict[str, Run], name: str, margin: float, quota: int) -> bool:
    """The rule in the words of the issue, share .1, tolerance .02, one standard error."""

    def distance(each: Run) -> float | None:
        past = [at for at in each.get("removals", []) if at <= 0.1]
        return 0.1 - max(past) if past else None

    def sizes(each: Run) -> set[float]:
        at = each.get("at", [1.0] * len(each["sizes"]))
        return {s for s, a in zip(each["sizes"], at, strict=True) if a <= each.get("ended", 1.0)}

    own = runs[name]
    ahead = {s for s, a in zip(own["sizes"], own.get("at", [1.0] * 9), strict=False) if a > 0.1}
    peers = []
    for other in runs:
        mine, its = distance(own), distance(runs[other])
        alike = mine is its or (mine is not None and its is not None and abs(mine - its) < 0.0201)
        if other != name and alike and sizes(runs[other]):
            peers.append(runs[other])
    beaten = set()
    for peer in peers:
        gap = own["figures"][0.1] - peer["figures"][0.1]
        noise = math.sqrt(own.get("errors", {0.1: 0})[0.1] ** 2 + peer.get("errors", {0.1: 0})[0.1] ** 2)
        if gap > margin and gap > noise:
            beaten |= {s for s in ahead if any(p <= s for p in sizes(peer))}
    if not ahead or beaten != ahead:
        return False
    for low in [2**k for k in range(10)]:
        if any(low <= s < 2 * low for s in ahead):
            rivals = [p for p in peers if any(low <= s < 2 * low for s in sizes(p))]
            if sum(p["figures"][0.1] < own["figures"][0.1] for p in rivals) < quota:
                return False
    return True


def test_it_is_the_rule_said_plainly() -> None:
    draw, num_stopped = random.Random(0), 0
    for _ in range(300):
        runs = some_runs(draw)
        margin, quota = draw.choice([0.0, 0.05, 0.25]), draw.choice([0, 1, 2])
        for name in runs:
            expected = plain_rule(runs, name, margin, quota)
            assert verdict(runs, name, 0.1, margin=margin, quota=quota).stops is expected, (runs, name, margin, quota)
            num_stopped += expected
    assert num_stopped > 200


def test_laws_over_random_runs() -> None:
    draw = random.Random(1)
    for _ in range(200):
        runs = some_runs(draw)
        name = draw.choice(list(runs))
        own = runs[name]
        before = verdict(runs, name, 0.1)
        # The order of the runs is of no matter.
        shuffled = list(runs.items())
        draw.shuffle(shuffled)
        assert verdict(dict(shuffled), name, 0.1) == before
        # A worse peer never stops a run.
        worse: Run = {"sizes": [1.0], "figures": {0.1: own["figures"][0.1] + draw.choice([0.0, 0.3])}}
        assert verdict(runs | {"worse": worse}, name, 0.1).stops is before.stops
        # Nor does one of larger sizes only beat it anywhere.
        larger: Run = {"sizes": [max(own["sizes"]) + 1], "figures": {0.1: -9.0}}
        assert verdict(runs | {"larger": larger}, name, 0.1).beaten_by == before.beaten_by
        # A wider margin or quota stops no more.
        if not before.stops:
            assert not verdict(runs, name, 0.1, margin=0.2).stops
            assert not verdict(runs, name, 0.1, quota=3).stops
        # The best of all is never stopped.
        best = min(runs, key=lambda each: runs[each]["figures"][0.1])
        assert not verdict(runs, best, 0.1, margin=0, quota=0).stops
