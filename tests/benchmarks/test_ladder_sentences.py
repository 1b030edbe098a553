"""What is answered where seeds, sizes and steps are not as one would have them."""

from dataclasses import replace

import pytest

from prunedlora.benchmarks.ladder_answers import mean_gain
from prunedlora.benchmarks.ladder_results import Plan
from prunedlora.benchmarks.ladder_sentences import answers
from tests.benchmarks.measured_ladders import ACCURACY, LOSS, made, results_of

PLAN = Plan(4, 1, 8, 0.02, ladder="L", reference="R")
FINE = {seed: 0.9 + 0.001 * (seed % 2) for seed in range(8)}


def test_yes_where_all_is_there_at_a_quarter_of_the_steps() -> None:
    good = {1600: FINE, 100: FINE}
    lines, found = answers(results_of(made("L", good, 100), made("R", good, 400), plan=PLAN), ACCURACY)
    assert lines[0] == "What L loses to R, at the 2 sizes that both plan:"
    assert lines[1] == "  at ¼ of the dedicated trainings' total or less? yes (0.25: 100 of 400 steps)"
    assert lines[4].startswith("  at every size, at ¼ of the dedicated trainings' total or less? yes (an intersection-")
    assert not any("does not answer" in line for line in lines)
    assert (found["loses"]["answer"], found["loses"]["everywhere"]) == ("yes", "yes")


def test_with_more_steps_it_does_not_answer_the_question() -> None:
    good = {1600: FINE, 100: FINE}
    lines, found = answers(results_of(made("L", good, 101), made("R", good, 400), plan=PLAN), ACCURACY)
    assert lines[1] == "  at ¼ of the dedicated trainings' total or less? no (0.25: 101 of 400 steps)"
    assert lines[4].startswith("  at every size? yes (")
    assert lines[5].startswith("  At 0.25 of its steps this does not answer the question asked, which is at ¼ of")
    assert (found["loses"]["answer"], found["loses"]["everywhere"]) == ("not told", "yes")


def test_seeds_that_failed_at_a_size_keep_it_from_yes() -> None:
    """The three that are left lose nothing at all."""
    ladder = made("L", {1600: FINE, 100: {seed: FINE[seed] for seed in (0, 1, 2)}}, 100)
    lines, found = answers(results_of(ladder, made("R", {1600: FINE, 100: FINE}, 400), plan=PLAN), ACCURACY)
    assert [entry["answer"] for entry in found["loses"]["at"].values()] == ["yes", "not told"]
    assert found["loses"]["everywhere"] == "not told"
    assert lines[3].endswith("L lacks 5 seeds (3, 4, 5, 6, 7), which R has: that counts against L")
    assert lines[5] == (
        "  L lacks figures that R has, at 1 size of 2: 100 parameters, 5 seeds (3, 4, 5, 6, 7) of 8"
    )  # fmt: skip
    # Nor is it ahead over sizes by those that are left.
    better = made("L", {1600: {s: FINE[s] + 0.05 for s in (0, 1, 2)}, 100: {s: FINE[s] + 0.05 for s in (0, 1, 2)}})
    other = made("R", {1600: FINE, 100: FINE})
    found = answers(results_of(better, other, plan=PLAN), ACCURACY)[1]["hypervolume"]["minus"]["R"]
    assert (found["lower"] > 0, found["lacking"], found["answer"]) == (True, [3, 4, 5, 6, 7], "not told")


def test_a_planned_size_without_any_figure_counts() -> None:
    ladder, reference = made("L", {1600: FINE, 100: {}}, 100), made("R", {1600: FINE, 100: FINE}, 400)
    lines, found = answers(results_of(ladder, reference, plan=PLAN), ACCURACY)
    assert lines[3].startswith("  100 parameters: no seed has both; at most 0.02? not told; L lacks 8 seeds (0, 1, 2,")
    assert (found["loses"]["everywhere"], found["loses"]["answer"]) == ("not told", "not told")
    assert lines[-1] == "Hypervolume of L minus that of R: not told: no seed has all sizes of L"
    # The other way round there is nothing to compare with.
    lines, found = answers(results_of(made("L", {1600: FINE, 100: FINE}), made("R", {1600: FINE, 100: {}}), plan=PLAN), ACCURACY)  # fmt: skip # noqa: E501
    assert lines[3] == "  100 parameters: R has no figures; not told"
    assert found["loses"]["everywhere"] == "not told"


def test_no_size_in_common_is_the_reason() -> None:
    lines, found = answers(results_of(made("L", {1600: FINE}, 100), made("R", {50: FINE}, 400), plan=PLAN), ACCURACY)
    assert lines[2].endswith("? not told (no size in common)")
    assert lines[-1] == "Hypervolume of L minus that of R: not told: no size in common"
    assert found["loses"]["answer"] == found["hypervolume"]["minus"]["R"]["answer"] == "not told"


def test_variants_of_other_sizes_are_compared_over_those_that_both_plan() -> None:
    """The ladder's rung at 100 would be an area that the other was never asked for, and so would that at 800."""
    ladder = made("L", {1600: FINE, 800: FINE, 400: FINE, 100: FINE})
    reference = made("R", {1600: dict.fromkeys(FINE, 0.8), 400: dict.fromkeys(FINE, 0.7)})
    lines, found = answers(results_of(ladder, reference, plan=PLAN), ACCURACY)
    of_both = found["hypervolume"]["minus"]["R"]
    ours, theirs = (mean_gain(gains, 0.1, 400, 1600) for gains in ({1600: 0.9, 400: 0.9}, {1600: 0.8, 400: 0.7}))
    assert of_both["by_seed"][0] == pytest.approx(ours - theirs, abs=1e-12)
    assert "of R, at the 2 sizes that both plan, from 400 to twice 1,600 parameters: ahead; " in lines[-1]
    # Of equal sizes it is of the axis of the file, however many sizes others have.
    results = results_of(ladder, reference, replace(reference, variant=made("S", {}).variant), plan=PLAN)
    results = replace(results, plan=replace(PLAN, ladder="R", reference=None, rival="S"))
    lines, found = answers(results, ACCURACY)
    assert found["hypervolume"]["minus"]["S"]["axis"] == (100, 1600)
    assert lines[-1].startswith("Hypervolume of R minus that of S, the rival: not told; +0.0000")


def test_one_seed_tells_nothing() -> None:
    one = {1600: {0: 0.9}}
    plan = replace(PLAN, num_seeds=1)
    lines, _ = answers(results_of(made("L", one, 100), made("R", one, 400), plan=plan), ACCURACY)
    assert lines[0] == "One seed tells nothing: a hint."
    assert "+0.0000, one seed, which tells nothing; at most 0.02? not told" in lines[3]


def test_of_a_loss_the_margin_is_a_share_and_less_is_better() -> None:
    ladder, reference = made("L", {100: {0: 1.05, 1: 1.06}}), made("R", {100: {0: 1.0, 1: 1.01}})
    for margin, answer in ((0.06, "yes"), (0.04, "no")):
        results = results_of(ladder, reference, plan=replace(PLAN, num_seeds=2, margin=margin), base=2.0)
        lost = answers(results, LOSS)[1]["loses"]["at"]["100"]
        assert lost["margin"] == pytest.approx(margin * 1.005)
        assert (lost["mean"], lost["answer"]) == (pytest.approx(0.05), answer)
