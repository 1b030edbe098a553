"""Documents of schema 1, made such as schema 2 has them: the one place that knows how they were.

What schema 2 changed: a candidate's `truncated_rank` is a `cut` by SVD to one rank; the outcomes of an example,
`correct` (0 or 1), are `scores` (from 0 to 1); asks and exported adapters say their version.
"""

from collections.abc import Mapping
from typing import Any, Final

OLD_VERSION: Final = 1
"""Also of a document that says none: asks and exported adapters did not."""
_NEW = {
    "TrialRecord": {"evaluation_seconds", "screened_cuts"},
    "Candidate": {"rung", "branch_steps", "cut", "evaluation_seconds", "judged_by_loss"},
    "ExampleOutcomes": {"scores"},
    "ExportedAdapter": {"cut"},
}
"""Fields that schema 1 did not have."""


class UpgradeError(ValueError):
    """Content that no document of schema 1 had; the message begins with the place."""


def upgraded(kind: str, content: Mapping[str, Any], version: int) -> dict[str, Any]:
    """`content`, a document of class `kind` and of schema 1, as schema 2 has it. What is changed is read strictly; the
    rest is for the class to check.

    Raises UpgradeError for a field that came later, and a rank or an outcome that could not be.
    """
    _refuse_new(kind, content, "")
    new = {**content, "schema_version": version}
    if kind == "TrialRecord" and isinstance(content.get("candidates"), list):
        new["candidates"] = [
            _candidate(each, f"candidates.{index}.") for index, each in enumerate(content["candidates"])
        ]
    if kind == "ExampleOutcomes" and "correct" in content:
        new["scores"] = _scores(new.pop("correct"))
    if kind == "ExportedAdapter":
        new["cut"] = _cut(new.pop("truncated_rank", None), "")
    return new


def _candidate(content: Any, where: str) -> Any:
    if not isinstance(content, Mapping):  # for the class to refuse
        return content
    _refuse_new("Candidate", content, where)
    new = dict(content)
    return new | {"cut": _cut(new.pop("truncated_rank", None), where)}


def _cut(rank: Any, where: str) -> dict[str, Any] | None:
    if rank is None:
        return None
    if not _is_whole(rank) or rank < 1:
        raise UpgradeError(f"{where}truncated_rank: {rank!r} is no rank")
    return {"basis": "svd", "allocation": "uniform", "unit": "mean_rank", "size": rank}


def _scores(correct: Any) -> Any:
    for metric, values in correct.items() if isinstance(correct, Mapping) else ():
        if not isinstance(values, list):  # for the class to refuse
            continue
        wrong = [value for value in values if not (_is_whole(value) and value in (0, 1))]
        if wrong:
            raise UpgradeError(f"correct.{metric}: {wrong[0]!r} is neither 0 nor 1")
    return correct


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_new(kind: str, content: Mapping[str, Any], where: str) -> None:
    if later := sorted(_NEW.get(kind, set()) & content.keys()):
        raise UpgradeError(f"{where}{later[0]}: no field of schema {OLD_VERSION}")
