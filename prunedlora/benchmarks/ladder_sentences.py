"""What a comparison of ladders answers, in sentences and in figures."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from prunedlora.benchmarks.ladder_answers import (
    Paired,
    at_most,
    everywhere,
    paired,
    place,
    takes_little,
)
from prunedlora.benchmarks.ladder_results import Measured, Results
from prunedlora.benchmarks.over_seeds import over_seeds
from prunedlora.results.analysis.pareto import Objectives

AT_A_QUARTER = "at ¼ of the dedicated trainings' total or less"
"""MOST_SHARE in words."""


def answers(results: Results, objectives: Objectives) -> tuple[list[str], dict[str, Any]]:
    """What `--ladder` loses to `--reference` at each size, and where it is over all sizes; as sentences, and all
    figures."""
    plan, lines = results.plan, []
    found: dict[str, Any] = {}
    if plan.ladder is None:
        return [], {}
    if plan.num_rates == 1:
        lines.append("One rate, not tuned: a hint.")
    if plan.num_seeds == 1:
        lines.append("One seed tells nothing: a hint.")
    if plan.reference is not None:
        said, found["loses"] = _losses(results, plan.ladder, plan.reference, objectives)
        lines += said
    found["hypervolume"] = {"of": plan.ladder, "minus": {}}
    for name in results.variants:
        if name != plan.ladder:
            line, found["hypervolume"]["minus"][name] = _over_sizes(results, plan.ladder, name, objectives)
            lines.append(line)
    return lines, found


def _losses(results: Results, name: str, other: str, objectives: Objectives) -> tuple[list[str], dict[str, Any]]:
    ladder, reference, plan = results.variants[name], results.variants[other], results.plan
    sizes = _common(ladder, reference)
    steps, others = ladder.variant.num_steps, reference.variant.num_steps
    share, is_little = steps / others, takes_little(steps, others)
    lines = [
        f"What {name} loses to {other}, at the {_count(len(sizes), 'size')} that both plan:",
        f"  {AT_A_QUARTER}? {'yes' if is_little else 'no'} ({share:.2f}: {steps:,} of {others:,} steps)",
    ]
    at: dict[str, Any] = {}
    for size in sizes:
        line, at[str(size)] = _loss(results, name, other, size, objectives)
        lines.append(line)
    told = everywhere(entry["answer"] for entry in at.values())
    why = "an intersection-union test: yes only where each size says so, so nothing is corrected"
    if not sizes:
        why = "no size in common"
    lines.append(f"  at every size{f', {AT_A_QUARTER}' if is_little else ''}? {told} ({why})")
    if not is_little:
        lines.append(f"  At {share:.2f} of its steps this does not answer the question asked, which is {AT_A_QUARTER}.")
    lacking = {size: at[str(size)]["lacking"] for size in sizes if at[str(size)]["lacking"]}
    if lacking:
        where = "; ".join(
            f"{size:,} parameters, {_seeds(seeds)} of {plan.num_seeds}" for size, seeds in lacking.items()
        )
        lines.append(
            f"  {name} lacks figures that {other} has, at {_count(len(lacking), 'size')} of {len(sizes)}: {where}"
        )
    return lines, {
        "to": other,
        "margin": plan.margin,
        "share_of_steps": share,
        "at_a_quarter_or_less": "yes" if is_little else "no",
        "at": at,
        "everywhere": told,
        "answer": told if is_little else "not told",
    }


def _loss(results: Results, name: str, other: str, size: int, objectives: Objectives) -> tuple[str, dict[str, Any]]:
    """At one size that both plan."""
    plan = results.plan
    ours, theirs = (results.variants[each].quality(size, objectives.quality) for each in (name, other))
    begin = f"  {size:,} parameters: "
    alone, unpaired = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    facts: dict[str, Any] = {"lacking": alone, "reference_lacking": unpaired}
    if not theirs:
        return f"{begin}{other} has no figures; not told", facts | {"answer": "not told"}
    margin = plan.margin if objectives.maximize else plan.margin * over_seeds(list(theirs.values()))[0]
    lost = [objectives.gain(theirs[seed]) - objectives.gain(ours[seed]) for seed in sorted(ours) if seed in theirs]
    loss = paired(lost) if lost else None
    answer = at_most(loss, margin, len(alone))
    line = f"{begin}{_words(loss)}; at most {margin:.4g}? {answer}{_alone(name, alone, other)}"
    if unpaired:
        line += f"; {other} lacks {_seeds(unpaired)}"
    return line, facts | ({} if loss is None else asdict(loss)) | {"margin": margin, "answer": answer}


def _over_sizes(results: Results, name: str, other: str, objectives: Objectives) -> tuple[str, dict[str, Any]]:
    """The difference of hypervolumes over the sizes that both plan, at equal seeds."""
    ladder, theirs = results.variants[name], results.variants[other]
    is_rival = ", the rival" if other == results.plan.rival else ""
    begin = f"Hypervolume of {name} minus that of {other}{is_rival}"
    sizes = _common(ladder, theirs)
    if not sizes:
        return f"{begin}: not told: no size in common", {"answer": "not told", "sizes": []}
    # Of variants that plan all sizes of the file it is the difference of what the table has.
    is_all = sizes == list(ladder.planned) == list(theirs.planned)
    axis = results.axis if is_all else (sizes[-1], sizes[0])
    at = f", at the {_count(len(sizes), 'size')} that both plan, from {axis[0]:,} to twice {axis[1]:,} parameters"
    begin += "" if is_all else at
    ours, others = (each.areas(sizes, axis, results.base, objectives) for each in (ladder, theirs))
    alone, unpaired = sorted(others.keys() - ours.keys()), sorted(ours.keys() - others.keys())
    both = {seed: ours[seed] - others[seed] for seed in ours if seed in others}
    facts: dict[str, Any] = {"sizes": sizes, "axis": axis, "lacking": alone, "other_lacking": unpaired}
    if not both:
        without = [each for each, areas in ((name, ours), (other, others)) if not areas]
        why = f"no seed has all sizes of {' or '.join(without)}" if without else "no seed has all sizes of both"
        return f"{begin}: not told: {why}", facts | {"answer": "not told"}
    difference = paired(list(both.values()))
    told = place(difference, len(alone), len(unpaired))
    line = f"{begin}: {told}; {_words(difference)}{_alone(name, alone, other)}{_alone(other, unpaired, name)}"
    return line, facts | asdict(difference) | {"by_seed": both, "answer": told}


def _common(one: Measured, other: Measured) -> list[int]:
    """Sizes that both plan, falling."""
    return [size for size in one.planned if size in other.planned]


def _alone(name: str, seeds: list[int], other: str) -> str:
    return f"; {name} lacks {_seeds(seeds)}, which {other} has: that counts against {name}" if seeds else ""


def _seeds(seeds: Iterable[int]) -> str:
    given = list(seeds)
    return f"{_count(len(given), 'seed')} ({', '.join(map(str, given))})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _words(of: Paired | None) -> str:
    if of is None:
        return "no seed has both"
    if of.stderr is None:
        return f"{of.mean:+.4f}, one seed, which tells nothing"
    return f"{of.mean:+.4f} ± {of.stderr:.4f}, one-sided 95 % from {of.lower:+.4f}, to {of.upper:+.4f}, {of.num} seeds"
