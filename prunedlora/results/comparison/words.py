"""A comparison in sentences, for the terminal and the page: what is sure, what was measured, what to bear in mind."""

from collections.abc import Sequence

from prunedlora.results.analysis.configurations import identity
from prunedlora.results.analysis.harness_quality import examples_text, spent_text, whole_split_text
from prunedlora.results.analysis.trainings import cost_of, sharing_text
from prunedlora.results.comparison.fronts import Comparison, Contrast, Matched, Shares
from prunedlora.results.comparison.groups import Group
from prunedlora.results.figure_text import figure_text, no_error_text
from prunedlora.results.record import Figure
from prunedlora.results.recorded_settings import flat
from prunedlora.results.report.verdict import percent


def finding(comparison: Comparison, contrast: Contrast) -> list[str]:
    """Which of the two is better where: first what is sure, then what was measured."""
    name, control, shares = contrast.group.name, comparison.control.name, contrast.shares
    sure, size = f"with {percent(comparison.confidence)} confidence", comparison.objectives.size
    if contrast.common is None or shares is None:
        return [
            f"{name} and {control} tried no size in common: {size} {span(contrast.group)} and "
            f"{span(comparison.control)}.",
            f"At a given size, each is as good as its best that is no larger; {sure}: "
            f"{'; '.join(f'up to {one.size:,.10g} {said(comparison, contrast, one)}' for one in contrast.budgets)}.",
        ]
    first, last = contrast.common
    beyond = _beyond(comparison, contrast, first, last)
    if first == last:
        (at,) = (one for one in contrast.matched if one.size == first)
        sizes = f"at the one {size} that both tried, {first:,.10g}"
        if at.verdict == "unknown":
            told = f"No difference between {name} and {control} can be told {sure} {sizes}."
        elif at.verdict == "equal":
            told = f"{name} and {control} are at most {comparison.within:g} apart {sure} {sizes}."
        else:
            told = f"{name} is {at.verdict} than {control} {sure} {sizes}."
        return [told, f"Measured {_apart(at.difference)}.", *beyond]
    sizes = f"({size} {first:,.10g} to {last:,.10g})"
    verdicts = {one.verdict for one in contrast.matched if one.size <= last}
    if shares.surely_better or shares.surely_worse:
        told = f"W{sure[1:]}, {name} is {_where(shares, control)} {sizes}{_rest(shares)}."
    elif verdicts == {"equal"}:
        told = (
            f"{name} and {control} are at most {comparison.within:g} apart {sure} at every size that both tried "
            f"{sizes}."
        )
    else:
        told = f"No difference between {name} and {control} can be told {sure} over the sizes that both tried {sizes}."
    measured = f"Measured, it is ahead on {share(shares.better)} of them and behind on {share(shares.worse)}"
    return [told, f"{measured} (by the logarithm of the size).", *beyond]


def hypervolumes(comparison: Comparison) -> str:
    """The areas under all fronts, and where they are measured from."""
    first, origin = comparison.hypervolumes[0], comparison.reference
    parts = [
        f"{group.name} {area:,.6g}" + (f" ({area / first:.3f}×)" if first > 0 and index else "")
        for index, (group, area) in enumerate(zip(comparison.groups, comparison.hypervolumes, strict=True))
    ]
    return (
        f"Hypervolume up to {comparison.objectives.quality} {origin.quality:g} and {comparison.objectives.size} "
        f"{origin.size:,.10g} ({origin.rule}): {', '.join(parts)}. As measured: no error is told from it."
    )


def notes(comparison: Comparison) -> list[str]:
    """How the statements were reached, and what they do not cover."""
    return [
        *_pairing(comparison),
        "Intervals are for how much better the truly best adapter up to a size is. They hold with "
        f"{percent(comparison.confidence)} confidence for all sizes and comparisons at once, and allow for the luck of "
        f"whichever of {comparison.num_running:,} candidates came out as the best ({comparison.critical_values[0]:.2f} "
        f"standard errors down, {comparison.critical_values[1]:.2f} up; from the bootstrap, max-t).",
        *_luck(comparison),
        _seeds(comparison),
        *_trainings(comparison),
        *_losses(comparison),
        *filter(None, [spent_text(comparison.objectives.quality), no_error_text(_shown(comparison))]),
    ]


def _shown(comparison: Comparison) -> list[Figure]:
    """The figures that stand in tables and charts."""
    named = [point for group in comparison.groups for point in (*group.front, group.recommended) if point is not None]
    return [point.quality for point in named]


def _seeds(comparison: Comparison) -> str:
    split = whole_split_text(comparison.objectives.quality)
    if not any(_has_seeds(group) for group in comparison.groups):
        return (
            f"All on {split}, and one training each: another seed may differ by more than this; train both with "
            "further seeds to know."
        )
    return (
        f"All on {split}. Where a configuration was trained with several seeds, each training counts as a candidate "
        "and the best one stands for it: noise between seeds is not in the intervals (recommend has it)."
    )


def _trainings(comparison: Comparison) -> list[str]:
    """What each group cost, and what follows where a front is of few trainings."""
    costs = [f"{group.name} cost {cost_of(group.records).text()}." for group in comparison.groups]
    shared = [f"{group.name}: {told}" for group in comparison.groups if (told := sharing_text(group.front))]
    alike = ["Sizes at which both adapters are of the same two trainings are one observation of seeds, not many."]
    return [*costs, *shared, *(alike if shared else [])]


def _has_seeds(group: Group) -> bool:
    """Whether a configuration was trained more than once."""
    records = {point.key: point.record for point in group.points}
    return len({identity(record) for record in records.values()}) < len(records)


def said(comparison: Comparison, contrast: Contrast, matched: Matched) -> str:
    """The verdict in a few words."""
    return {
        "better": f"{contrast.group.name} is better",
        "worse": f"{comparison.control.name} is better",
        "equal": f"equal within {comparison.within:g}",
        "unknown": "no difference can be told",
    }[matched.verdict]


def signed(value: float) -> str:
    return f"{value:+z.3f}"


def interval(matched: Matched) -> str:
    return f"{signed(matched.difference)} [{signed(matched.low)}, {signed(matched.high)}]"


def share(part: float) -> str:
    return f"{100 * part:.3g}%"


def span(group: Group) -> str:
    first, last = group.points[0].size, group.points[-1].size
    return f"{first:,.10g}" if first == last else f"{first:,.10g} to {last:,.10g}"


def _where(shares: Shares, control: str) -> str:
    parts = (("better", shares.surely_better), ("worse", shares.surely_worse))
    (word, part), *other = [one for one in parts if one[1]]
    also = "".join(f" and {word} on {share(part)}" for word, part in other)
    return f"{word} than {control} on {share(part)}{also} of the sizes that both tried"


def _rest(shares: Shares) -> str:
    return (
        "" if shares.surely_better + shares.surely_worse > 1 - 1e-9 else "; on the rest it is not sure which is better"
    )


def _apart(difference: float) -> str:
    word = "better" if difference > 0 else "worse"
    return f"{abs(difference):.3f} {word}" if difference else "the same"


def _beyond(comparison: Comparison, contrast: Contrast, first: float, last: float) -> list[str]:
    """Who alone has smaller or larger adapters, and how good they are."""
    quality, lines = comparison.objectives.quality, []
    for group in (contrast.group, comparison.control):
        smaller = [point for point in group.front if point.size < first]
        if smaller:
            lines.append(
                f"Below {first:,.10g} only {group.name} has adapters, from {smaller[0].size:,.10g}: {quality} "
                f"{figure_text(smaller[-1].quality)} at {smaller[-1].size:,.10g}."
            )
        if group.best.size > last:
            lines.append(
                f"Above {last:,.10g} only {group.name} gets better: {quality} {figure_text(group.best.quality)} at "
                f"{group.best.size:,.10g}."
            )
    return lines


def _pairing(comparison: Comparison) -> list[str]:
    """How the candidates were compared, in one sentence where it was the same for all."""
    found: dict[str, list[str]] = {}
    for contrast in comparison.contrasts:
        paired = {one.paired for one in contrast.matched}
        if paired == {True}:
            num_examples = contrast.matched[0].group.quality.num_examples
            examples = examples_text(comparison.objectives.quality, num_examples)
            how = f"Compared on the same {num_examples:,} {examples}, pair by pair"
        elif not contrast.same_data and True not in paired:
            how = (
                "Scored on different data, or on different splits of it, so that nothing is paired: standard errors "
                "were taken for independent. Where the data differ in kind, a difference says little of the adapters"
            )
        else:
            how = (
                f"Outcomes by example are not on record for {'all' if True in paired else 'both'}, or not for the same "
                "examples, so standard errors were taken for independent there: cautious"
            )
        found.setdefault(how, []).append(contrast.group.name)
    if len(found) == 1:
        return [f"{how}." for how in found]
    return [f"{', '.join(names)}: {how[0].lower()}{how[1:]}." for how, names in found.items()]


def _luck(comparison: Comparison) -> list[str]:
    counts = [_count(group) for group in comparison.groups]
    return [
        "Every best is the luckiest of many on the examples that it is judged by (candidates: "
        f"{', '.join(counts)}): its own figure is a little too high, the more so the more were tried. More trials "
        "are an advantage of their own."
    ]


def _count(group: Group) -> str:
    num_trainings = len({point.key for point in group.points})
    trainings = "1 training" if num_trainings == 1 else f"{num_trainings} trainings"
    of_few = "" if num_trainings == len(group.points) else f" from {trainings}"
    return f"{len(group.points)} of {group.name}{of_few}"


def _losses(comparison: Comparison) -> list[str]:
    models = {name for group in comparison.groups for name in _models(group)}
    if comparison.objectives.quality != "loss" or len(models) < 2:
        return []
    return [
        f"The loss is per target of each model's own tokens: between models ({', '.join(sorted(models))}) it compares "
        "only where these are the same."
    ]


def _models(group: Group) -> Sequence[str]:
    return [str(flat(point.record.config).get("model.name", "unnamed")) for point in group.points]
