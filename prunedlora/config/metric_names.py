"""What `evaluation.metric` may name beside a task's own metrics: a function of one's own, or the harness's."""

import re
from pathlib import Path

OWN = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_][A-Za-z0-9_]*)")
HARNESS = "harness/"


def own_metric(metric: str) -> tuple[Path, str] | None:
    """The file and the name of a function of one's own, `metrics.py:score`; None for any other metric."""
    found = OWN.fullmatch(metric)
    return None if found is None else (Path(found["file"]).expanduser(), found["function"])


def is_harness(metric: str) -> bool:
    """Whether it is a figure of lm-evaluation-harness, `harness/<task>/<metric>`."""
    return metric.startswith(HARNESS)


def harness_metric(metric: str) -> tuple[str, str] | None:
    """Task and metric of a figure of lm-evaluation-harness, the metric with its filter: ("gsm8k",
    "exact_match,strict-match"); None for any other metric, and for a name that lacks one of them."""
    task, _, name = metric.removeprefix(HARNESS).rpartition("/")
    return (task, name) if is_harness(metric) and task and name else None


def figure_name(metric: str) -> str:
    """What its figures are called in records and under `objectives`: of a function of one's own its name, else as it is
    written."""
    own = own_metric(metric)
    return metric if own is None else own[1]
