"""What is wrong with a sweep's space and baselines, beside its base: one line per problem, with its place."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from prunedlora.config.baselines import same_trials, without_label
from prunedlora.config.corners import corners
from prunedlora.config.evaluation_section import HarnessConfig
from prunedlora.config.fields import ListPathError, all_fields, is_field, place, takes_whole_numbers_only
from prunedlora.config.given import Known, priors, with_given
from prunedlora.config.metric_names import NO_MEASUREMENT
from prunedlora.config.space import IntRange, LogInt, LogUniform, SpaceEntry, Uniform
from prunedlora.config.trial import TrialConfig, trial_with

MOST_PROBLEMS = 10


def space_field_problems(space: Mapping[str, SpaceEntry]) -> list[str]:
    """Entries that name no field of a trial, or give it other numbers than it takes, or wait for what never is."""
    problems = []
    for path, entry in space.items():
        problems += _field_problem(path, f"space.{path}")
        if isinstance(entry, Uniform | LogUniform) and takes_whole_numbers_only(TrialConfig, path):
            low, high = entry.corners()
            kind = "log_int" if isinstance(entry, LogUniform) else "int"
            problems.append(f"space.{path}: takes whole numbers only; write {{{kind}: [{low:g}, {high:g}]}}")
        for parent, values in entry.when.items():
            if parent == path or parent not in space:
                problems.append(f"space.{path}.when: {parent!r} is not another entry of the space")
            else:
                problems += _impossible(space[parent], parent, values, f"space.{path}.when")
    return problems


def baseline_field_problems(baselines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fields of baselines that no trial has."""
    return [
        problem
        for i, baseline in enumerate(baselines)
        for path in without_label(baseline)
        for problem in _field_problem(path, f"baselines[{i}].{path}")
    ]


def gpu_problems(trial: TrialConfig) -> list[str]:
    """What of a trial needs a GPU, where workers get none."""
    model, needs = trial.model, "needs CUDA, but resources.gpus_per_worker is 0"
    problems = []
    if model.quantization is not None:
        problems.append(f"model.quantization {model.quantization!r} {needs}")
    if model.needs_half_precision:
        problems.append(f"model.attn_implementation {model.attn_implementation!r} {needs}")
    return problems


def suggestion_problems(
    base: TrialConfig,
    space: Mapping[str, SpaceEntry],
    baselines: Sequence[Mapping[str, Any]],
    quality: str,
    *,
    has_gpu: bool,
    known: Sequence[Known] = (),
) -> list[str]:
    """Baselines, corners of the space, and what it is begun with (its priors, the `known` configurations) at the
    corners of the rest, that are no valid trial, do not record the objective `quality`, or need a GPU where workers
    have none.

    A problem is told once, at the first place that has it; those of the space end after MOST_PROBLEMS with their count.
    """
    problems: dict[str, str] = {}
    for i, baseline in enumerate(baselines):
        for message in _trial_problems(base, without_label(baseline), quality, has_gpu):
            problems.setdefault(message, f"baselines[{i}]")
    if not problems:
        problems |= same_trials(base, baselines)
    of_space: dict[str, str] = {}
    for where, some in _spaces(space, known):
        for values in corners(some, inner=some is space):
            for message in _trial_problems(base, values, quality, has_gpu):
                shown = ", ".join(f"{path}={value}" for path, value in values.items())
                if message not in problems:
                    of_space.setdefault(message, f"{where} at {shown}")
    lines = [f"{where}: {message}" for message, where in (problems | of_space).items()]
    most = len(problems) + MOST_PROBLEMS
    if len(lines) > most:
        lines[most - 1 :] = [f"{lines[most - 1]} (and {len(lines) - most} more in the space)"]
    return lines


def _spaces(space: Mapping[str, SpaceEntry], known: Sequence[Known]) -> Iterator[tuple[str, Mapping[str, SpaceEntry]]]:
    """The space, and what of it is left beside each configuration that it is begun with; each with its name."""
    yield "space", space
    if every := priors(space):
        yield "the priors", with_given(space, every)
    for i, one in enumerate(known):
        yield f"known[{i}]", with_given(space, {**every, **one})


def _impossible(parent: SpaceEntry, name: str, values: list[Any], where: str) -> list[str]:
    """Values that a condition waits for in vain."""
    if isinstance(parent, Uniform | LogUniform):
        return [f"{where}: {name!r} is continuous; a condition needs a choice, an int or a value"]
    possible = parent.values() if isinstance(parent, IntRange | LogInt) else parent.corners()
    return [f"{where}: {name!r} never is {value!r}" for value in values if value not in possible]


def _field_problem(path: str, where: str) -> list[str]:
    if is_field(TrialConfig, path):
        return []
    close = difflib.get_close_matches(path, all_fields(TrialConfig), n=1)
    return [f"{where}: {path!r} is no field of a trial" + (f"; did you mean {close[0]!r}?" if close else "")]


def _trial_problems(base: TrialConfig, values: Mapping[str, Any], quality: str, has_gpu: bool) -> list[str]:
    try:
        trial = trial_with(base, values)
    except ListPathError as error:
        return [str(error)]
    except ValidationError as error:
        return [
            f"{place(details['loc'])}: {line}".removeprefix(": ")
            for details in error.errors()
            for line in details["msg"].removeprefix("Value error, ").split("\n")
        ]
    figure = trial.evaluation.figure
    if quality not in (figure, "loss"):
        return [f"evaluation.metric {figure!r} does not record the objective {quality!r}"]
    return [*_other_measurement(base, trial, quality), *([] if has_gpu else gpu_problems(trial))]


def _other_measurement(base: TrialConfig, trial: TrialConfig, quality: str) -> list[str]:
    """Why the objective of a trial is measured in another way than that of the base, though both have one name: they
    would be ranked as one quality. A loss is one of any metric."""
    ours, its = base.evaluation, trial.evaluation
    if quality == "loss":
        return []
    if its.metric != ours.metric:
        return [
            f"evaluation.metric {its.metric!r} is another function than the base's {ours.metric!r}, though both "
            f"figures are called {quality!r}: all trials of a sweep must be scored alike; give each function a sweep "
            "of its own"
        ]
    if not its.chosen_by_harness:
        return []
    asked, given = (
        {"evaluation.harness_tasks": each.harness_tasks}
        | {
            f"evaluation.harness.{name}": value
            for name, value in (each.harness or HarnessConfig()).model_dump(exclude=NO_MEASUREMENT).items()
        }
        for each in (its, ours)
    )
    return [
        f"{path} {value!r} is another than the base's {given[path]!r}: {quality!r} would be another measurement under "
        "its one name, and all trials of a sweep must be measured alike; give each a sweep of its own"
        for path, value in asked.items()
        if value != given[path]
    ]
