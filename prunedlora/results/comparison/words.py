"""A comparison in sentences, for the terminal and the page: what is sure, what was measured, what to bear in mind."""

from collections.abc import Sequence

from prunedlora.results.analysis.example_errors import rare_costs_text
from prunedlora.results.analysis.harness_quality import examples_text, spent_text, whole_split_text
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.seeds_condition import condition_text
from prunedlora.results.analysis.trainings import cost_of, sharing_text
from prunedlora.results.comparison.fronts import Comparison, Contrast
from prunedlora.results.comparison.groups import Group
from prunedlora.results.comparison.method_means import ONE_EACH, MethodContrast, rates_text
from prunedlora.results.comparison.verdicts import Matched, Side, Terms, sentences
from prunedlora.results.figure_text import counted, figure_text, no_error_text, percent
from prunedlora.results.record import Figure
from prunedlora.results.recorded_settings import flat


def of_methods(comparison: Comparison, contrast: Contrast) -> list[str]:
    """What is known of what the settings of both give, whatever the seed: first the verdict on all sizes."""
    rates = rates_text([contrast.group, comparison.control])
    return [*method_sentences(terms_of(comparison, contrast), contrast.methods), *([rates] if rates else [])]


def method_sentences(terms: Terms, methods: MethodContrast) -> list[str]:
    """The verdict on two methods and what it rests on."""
    if methods.why_not:
        return [f"Of {terms.name} and {terms.control} as methods nothing can be told: {methods.why_not}."]
    first, *rest = sentences(terms, methods.at)
    condition = f"This is {condition_text(methods.fewest_seeds)}."
    return [f"As methods, by their means over seeds: {first}", condition, *rest, *methods.fallen]


def of_adapters(comparison: Comparison, contrast: Contrast) -> list[str]:
    """What is known of these adapters, as they are: first the verdict on all sizes."""
    terms = terms_of(comparison, contrast)
    lines = sentences(terms, contrast.matched)
    lines[0] = f"These adapters, as they are: {lines[0]}"
    if comparison.unproven:
        lines = [f"Of these adapters it can only be said what was measured: {comparison.unproven}.", lines[-1]]
    if contrast.common is not None:
        return [*lines, *_beyond(comparison, contrast, *contrast.common)]
    apart = f"{comparison.objectives.size} {span(contrast.group)} and {span(comparison.control)}"
    return [*lines, f"{terms.name} and {terms.control} tried no size in common: {apart}."]


def terms_of(comparison: Comparison, contrast: Contrast) -> Terms:
    objectives = comparison.objectives
    return Terms(
        contrast.group.name, comparison.control.name, objectives.size, comparison.within, comparison.confidence
    )


def tables_of(comparison: Comparison, contrast: Contrast) -> list[tuple[str, Sequence[Matched[Side]]]]:
    """Title and rows of what is told of the methods, where something is, and of these adapters."""
    terms, quality = terms_of(comparison, contrast), comparison.objectives.quality
    between, sure = f"{terms.name} against {terms.control}", percent(terms.confidence)
    means = f"Methods, {between}: mean {quality} over seeds, difference with {sure} interval"
    adapters = f"These adapters, {between} at matched {terms.size}: {quality}, difference"
    adapters += "" if comparison.unproven else f" with {sure} interval"
    return [*([(means, contrast.methods.at)] if contrast.methods.at else []), (adapters, contrast.budgets)]


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
        *([] if comparison.unproven else [_intervals(comparison)]),
        *_luck(comparison),
        *_confirming(comparison),
        f"All on {whole_split_text(comparison.objectives.quality)}{_seeds(comparison)}",
        *_half_trained(comparison),
        *_trainings(comparison),
        *_losses(comparison),
        *filter(None, [rare_costs_text(_candidates(comparison), comparison.objectives.quality)]),
        *filter(None, [spent_text(comparison.objectives.quality), no_error_text(_shown(comparison))]),
    ]


def _intervals(comparison: Comparison) -> str:
    down, up = comparison.critical_values
    return (
        "Intervals of these adapters are for how much better the truly best adapter up to a size is. They hold with "
        f"{percent(comparison.confidence)} confidence for all sizes and comparisons at once, and allow for the luck of "
        f"whichever of {comparison.num_running:,} candidates came out as the best ({down:.2f} standard errors down, "
        f"{up:.2f} up; from the bootstrap, max-t)."
    )


def _shown(comparison: Comparison) -> list[Figure]:
    """The figures that stand in tables and charts."""
    named = [point for group in comparison.groups for point in (*group.front, group.recommended) if point is not None]
    return [point.quality for point in named]


def _seeds(comparison: Comparison) -> str:
    if all(contrast.methods.why_not == ONE_EACH for contrast in comparison.contrasts):
        return f", and {ONE_EACH}: another seed may differ by more than this; train both with further seeds to know."
    return (
        ". What is said of these adapters knows nothing of other seeds; what is said of methods is of means over "
        "seeds, the noise of each setting's estimated by itself."
    )


def _candidates(comparison: Comparison) -> list[Point]:
    return [point for group in comparison.groups for point in group.points]


def _confirming(comparison: Comparison) -> list[str]:
    counts = {
        group.name: sum(record.key in group.confirming for record in group.records) for group in comparison.groups
    }
    some = [f"{count} of {name}" for name, count in counts.items() if count]
    if not some:
        return []
    return [
        f"Trainings that confirm others are no candidates: {', '.join(some)}. The means of the settings that they "
        "confirm are of them alone."
    ]


def _half_trained(comparison: Comparison) -> list[str]:
    out = [f"{g.num_half_trained} of {g.name}" for g in comparison.groups if g.num_half_trained]
    only = [g.name for g in comparison.groups if any(p.candidate.is_half_trained for p in g.points)]
    return [
        *([f"Half-trained milestones are no adapters of a method and are left out: {', '.join(out)}."] if out else []),
        *(
            f"{g.name} recommends one all the same, {g.recommended.name}: the smallest within the margin."
            for g in comparison.groups
            if g.num_half_trained and g.recommended is not None and g.recommended.candidate.is_half_trained
        ),
        *([f"Of {' and of '.join(only)} there are only half-trained milestones."] if only else []),
    ]


def _trainings(comparison: Comparison) -> list[str]:
    """What each group cost, and what follows where a front is of few trainings."""
    costs = [f"{group.name} cost {cost_of(group.records).text()}." for group in comparison.groups]
    shared = [f"{group.name}: {told}" for group in comparison.groups if (told := sharing_text(group.front))]
    alike = ["Sizes at which both adapters are of the same two trainings are one observation of seeds, not many."]
    return [*costs, *shared, *(alike if shared else [])]


def span(group: Group) -> str:
    first, last = group.points[0].size, group.points[-1].size
    return f"{first:,.10g}" if first == last else f"{first:,.10g} to {last:,.10g}"


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
    of_few = "" if num_trainings == len(group.points) else f" from {counted(num_trainings, 'training')}"
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
