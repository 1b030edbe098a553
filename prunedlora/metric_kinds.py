"""Kinds of `evaluation.metric`: a task's own metrics by name, and functions of one's own; whether a metric needs
generated answers."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

OWN = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_][A-Za-z0-9_]*)")


class WithMetrics(Protocol):
    """A task, as far as its metrics go."""

    @property
    def metrics(self) -> Collection[str]: ...

    @property
    def generating_metrics(self) -> Collection[str]: ...


def own_metric(metric: str) -> tuple[Path, str] | None:
    """The file and the name of a function of one's own, `metrics.py:score`; None for any other metric."""
    found = OWN.fullmatch(metric)
    return None if found is None else (Path(found["file"]).expanduser(), found["function"])


def figure_name(metric: str) -> str:
    """What its figures are called in records and under `objectives`: of a function of one's own its name, else as it is
    written."""
    own = own_metric(metric)
    return metric if own is None else own[1]


def has_metric(task: WithMetrics, metric: str) -> bool:
    """Whether a task can be scored by it: one of its own, or a function of the user's, which every task takes."""
    return metric in task.metrics or own_metric(metric) is not None


def is_generating(task: WithMetrics, metric: str) -> bool:
    """Whether answers are generated for it. A function of one's own judges what a task's other metrics judge: the
    generated answer where the task has some, else the predicted class."""
    return metric in task.generating_metrics or (bool(task.generating_metrics) and own_metric(metric) is not None)
