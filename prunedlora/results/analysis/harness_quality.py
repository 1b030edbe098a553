"""What a quality that lm-evaluation-harness gives can tell, and which candidates have none."""

from collections.abc import Iterable, Mapping

from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import HARNESS, Figure, TrialRecord

NAMED_FAILURES = 3


def spent_text(quality: str, test: Mapping[str, Figure] | None = None) -> str:
    """That the documents were used to choose, and what is left as a test; empty where the quality is measured on the
    validation split. `test`: figures of the chosen adapter on the test split, which gives the loss alone."""
    if not quality.startswith(HARNESS):
        return ""
    task = quality.removeprefix(HARNESS).rpartition("/")[0]
    loss = None if test is None else test.get("loss")
    left = "" if loss is None else f" On the test split, by which nothing was chosen, its loss is {figure_text(loss)}."
    return (
        f"The documents of lm-evaluation-harness task {task} are this sweep's validation: adapters were chosen by "
        f"them, so {quality} is optimistic for the chosen one and is no independent test.{left} For an independent "
        "figure measure it by another task, with prunedlora harness."
    )


def unmeasured_text(records: Iterable[TrialRecord], quality: str) -> str:
    """Which candidates lm-evaluation-harness has no quality of, and why; empty where there are none."""
    missing = [
        (f"{record.key}@{candidate.name}", candidate.harness_failure)
        for record in records
        for candidate in record.candidates
        if candidate.harness_failure is not None and quality.startswith(HARNESS) and quality not in candidate.figures
    ]
    if not missing:
        return ""
    shown = "; ".join(f"{name}: {failure.type}: {failure.message}" for name, failure in missing[:NAMED_FAILURES])
    more = len(missing) - NAMED_FAILURES
    are = "candidate is" if len(missing) == 1 else "candidates are"
    return (
        f"{len(missing):,} {are} left out, without {quality}: lm-evaluation-harness failed ({shown}"
        f"{f'; and {more:,} more' if more > 0 else ''})."
    )
