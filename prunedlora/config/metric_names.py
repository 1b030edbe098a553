"""Figures of lm-evaluation-harness as `evaluation.metric`, and names that a function of one's own cannot have.

The other kinds: metric_kinds.py.
"""

from prunedlora.registry import lookup, names
from prunedlora.sizes import SIZES

HARNESS = "harness/"


def is_harness(metric: str) -> bool:
    """Whether it is a figure of lm-evaluation-harness, `harness/<task>/<metric>`."""
    return metric.startswith(HARNESS)


def taken_names() -> set[str]:
    """Figures and sizes that records have by themselves, which no function of one's own may be called."""
    return {metric for task in names("task") for metric in lookup("task", task).metrics} | set(SIZES)


def harness_metric(metric: str) -> tuple[str, str] | None:
    """Task and metric of a figure of lm-evaluation-harness, the metric with its filter: ("gsm8k",
    "exact_match,strict-match"); None for any other metric, and for a name that lacks one of them."""
    task, _, name = metric.removeprefix(HARNESS).rpartition("/")
    return (task, name) if is_harness(metric) and task and name else None
