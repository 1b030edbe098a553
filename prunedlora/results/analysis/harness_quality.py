"""What a quality that lm-evaluation-harness gives can tell, and which candidates have none."""

from collections.abc import Iterable, Mapping

from prunedlora.results.figure_text import figure_text
from prunedlora.results.record import HARNESS, Figure, TrialRecord

NAMED_FAILURES = 3


def examples_text(quality: str, count: int = 2) -> str:
    """What a quality is measured on: "validation examples", or "documents of <task>" where lm-evaluation-harness gives
    it; of one, "validation example"."""
    many = "" if count == 1 else "s"
    task = _task(quality)
    return f"validation example{many}" if task is None else f"document{many} of {task}"


def split_text(quality: str) -> str:
    """The same for a place: "validation", or "documents of <task>"."""
    return "validation" if _task(quality) is None else examples_text(quality)


def whole_split_text(quality: str) -> str:
    """All of it: "the validation split", or "the documents of <task>"."""
    return "the validation split" if _task(quality) is None else f"the {examples_text(quality)}"


def counted_text(quality: str, count: int) -> str:
    """How many, beside a figure: "validation, 400 examples", or "400 documents of <task>"."""
    return f"validation, {count:,} examples" if _task(quality) is None else f"{count:,} {examples_text(quality, count)}"


def titled(quality: str, word: str = "validation") -> str:
    """The quality in a title, after the `word` for the validation split: "validation accuracy"."""
    return f"{word} {quality}" if _task(quality) is None else f"{quality} ({examples_text(quality)})"


def spent_text(quality: str, test: Mapping[str, Figure] | None = None) -> str:
    """That the documents were used to choose, and what is left as a test; empty where the quality is measured on the
    validation split. `test`: figures of the chosen adapter on the test split, which gives the loss alone."""
    task = _task(quality)
    if task is None:
        return ""
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


def _task(quality: str) -> str | None:
    """Of lm-evaluation-harness; None for a quality that is measured on the validation split."""
    return quality.removeprefix(HARNESS).rpartition("/")[0] if quality.startswith(HARNESS) else None
