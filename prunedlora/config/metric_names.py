"""Figures of lm-evaluation-harness as `evaluation.metric`, and names that a function of one's own cannot have.

The other kinds: metric_kinds.py.
"""

from prunedlora.metric_kinds import own_metric
from prunedlora.registry import lookup, names
from prunedlora.sizes import SIZES

HARNESS = "harness/"
NO_MEASUREMENT = {"batch_size", "unsafe_code"}
"""Fields of HarnessConfig that leave a figure what it is."""
COLUMNS = {
    # of candidates.csv and of the front
    "key", "step", "candidate", "rung", "branch_steps", "cut", "cut_basis", "cut_allocation", "cut_unit",
    "cut_size", "label", "status", "confirms", "on_front", "recommended", "progress", "head_params", "train_seconds",
    "tokens_seen", "examples_seen", "evaluation_seconds", "tokens_per_second", "padding_share",
    "judged_by_loss", "vllm", "adapter_path", "num_examples", "config", "is_original", "times_smaller_than_original",
    "difference_from_original", "difference_from_original_stderr", "difference_from_original_paired",
    # of what is recommended
    "within", "validation", "test", "path", "worse_by", "at_most",
}  # fmt: skip
"""What stands beside a candidate's figures in the files of a report and in `recommend --json`: a figure of one of these
names would take its place there."""
OF_FIGURES = ("_stderr", "_num_examples")
"""Ends of the columns beside a figure's own."""


def is_harness(metric: str) -> bool:
    """Whether it is a figure of lm-evaluation-harness, `harness/<task>/<metric>`, and no function of one's own in a
    folder of that name."""
    return metric.startswith(HARNESS) and own_metric(metric) is None


def taken_names() -> set[str]:
    """Figures and sizes that records have by themselves, and columns that stand beside them, which no function of one's
    own may be called."""
    figures = {metric for task in names("task") for metric in lookup("task", task).metrics}
    return figures | {figure + end for figure in figures for end in OF_FIGURES} | set(SIZES) | COLUMNS


def harness_metric(metric: str) -> tuple[str, str] | None:
    """Task and metric of a figure of lm-evaluation-harness, the metric with its filter: ("gsm8k",
    "exact_match,strict-match"); None for any other metric, and for a name that lacks one of them."""
    task, _, name = metric.removeprefix(HARNESS).rpartition("/")
    return (task, name) if is_harness(metric) and task and name else None
