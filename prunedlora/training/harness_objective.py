"""Whether a figure of lm-evaluation-harness can be the quality that a sweep maximises: a loaded task gives it, more is
better, and it lies in [0, 1]."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.training.harness import PREFIX, HarnessError, figure_name

NO_SHARES = {
    "bits_per_byte", "bleu", "brier_score", "bypass_agg", "chrf", "chrfpp", "matthews_corrcoef", "perplexity", "ter",
    "weighted_perplexity",
}  # fmt: skip
"""Aggregations of lm_eval.api.metrics whose value is no share of 1, by the names of their functions."""


def check_objective(tasks: Mapping[str, Any], task: str, metric: str) -> None:
    """`metric`: with its filter, as in the figure's name. `tasks`: as `load_tasks` gives them.

    Raises HarnessError for a task or group that is none of them, a figure that it does not give, and one that is no
    share of 1 or better where it is lower; the message names the figures that could be taken.
    """
    name = f"evaluation.metric {f'{PREFIX}/{task}/{metric}'!r}"
    members = _members(tasks, task)
    if not members:
        known = ", ".join(sorted([*tasks["tasks"], *tasks["groups"]]))
        raise HarnessError(f"{name}: harness_tasks holds no task {task!r}; those that it holds: {known}")
    given = dict(_given(tasks, task, members))
    fitting = [figure for figure, problem in given.items() if problem is None]
    take = f"take {', '.join(fitting)}" if fitting else "none of its figures can be an objective"
    if metric not in given:
        raise HarnessError(
            f"{name}: {task!r} gives no {metric!r}, but {', '.join(given) or 'nothing of its own'}; {take}"
        )
    if (problem := given[metric]) is not None:
        raise HarnessError(f"{name} {problem}, but the quality is maximised and lies in [0, 1]; {take}")


def check_share_of_one(name: str, value: float) -> None:
    """Raises HarnessError for a value of the objective outside of [0, 1]: a task may aggregate by a function of its
    own."""
    if not 0 <= value <= 1:
        raise HarnessError(f"{name} is {value:g}, no share of 1, as the quality of a sweep must be")


@dataclass(frozen=True)
class DocumentScores:
    scores: tuple[float, ...]
    """Of every document, in the task's order, from 0 to 1."""
    documents: str
    """sha256 of the documents: scores of the same ones are pairs."""


def document_scores(samples: Sequence[Mapping[str, Any]], metric: str, value: float) -> DocumentScores | None:
    """Document by document, of what `lm_eval` logs of a task; None where the figure of this `value` is no mean of
    scores from 0 to 1. `metric`: with its filter."""
    name, _, filter_name = metric.partition(",")
    found = {each["doc_id"]: each for each in samples if each["filter"] == (filter_name or "none")}
    ordered = [found[number] for number in sorted(found)]
    scores: list[Any] = [each.get(name) for each in ordered]
    if not scores or not all(isinstance(score, int | float) and 0 <= score <= 1 for score in scores):
        return None
    values = tuple(map(float, scores))
    if not math.isclose(math.fsum(values) / len(values), value, abs_tol=1e-9):
        return None
    return DocumentScores(values, hashlib.sha256("".join(each["doc_hash"] for each in ordered).encode()).hexdigest())


def _members(tasks: Mapping[str, Any], name: str) -> list[Any]:
    """The task of that name, or all tasks of the group."""
    if name in tasks["tasks"]:
        return [tasks["tasks"][name]]
    return list(tasks["groups"][name].get_all_tasks()) if name in tasks["groups"] else []


def _given(tasks: Mapping[str, Any], name: str, members: Sequence[Any]) -> Iterator[tuple[str, str | None]]:
    """The figures that a task or group gives, each with what keeps it from being an objective."""
    if name in tasks["tasks"]:
        yield from _of_task(members[0]).items()
        return
    of_members = [_of_task(member) for member in members]
    for each in tasks["groups"][name].aggregate_metric_list or ():
        found: dict[str, str | None] = {}
        for figures in of_members:
            for figure, problem in figures.items():
                metric, _, filter_name = figure.partition(",")
                if metric == each.metric and (each.filter_list is None or (filter_name or "none") in each.filter_list):
                    found[figure] = found.get(figure) or problem
        yield from found.items()


def _of_task(task: Any) -> dict[str, str | None]:
    """The same of one task."""
    aggregations, directions = task.aggregation(), task.higher_is_better()
    return {
        figure_name(metric, each.name): _problem(aggregations[metric], directions.get(metric))
        for metric in aggregations
        for each in task._filters
    }


def _problem(aggregation: Any, higher_is_better: bool | None) -> str | None:
    if higher_is_better is False:
        return "is better where it is lower"
    # A function of the task's own may give shares: its values are looked at.
    is_known = getattr(aggregation, "__module__", None) == "lm_eval.api.metrics"
    return "is no share of 1" if is_known and aggregation.__name__ in NO_SHARES else None
