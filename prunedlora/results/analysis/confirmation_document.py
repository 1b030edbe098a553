"""What is known of a confirmation, as plain JSON data."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from prunedlora.results.analysis.confirmation import Confirmation, FreshResult
from prunedlora.results.analysis.confirmation_text import confirmation_sentences
from prunedlora.results.analysis.looks import Statement, seeds_needed
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.seeds_condition import condition_document


def confirmation_documents(confirmations: Iterable[Confirmation], objectives: Objectives) -> list[dict[str, Any]]:
    """One of each plan: what it asked, means over its fresh seeds by adapter in question, what is told of each beside
    the one it is compared with, and the sentences that say so."""
    return [
        {
            "number": found.plan.number,
            "asked_at": found.plan.asked_at,
            "is_over": found.is_over,
            "seeds": list(found.plan.seeds),
            "looks": list(found.plan.looks),
            "settings": [_setting(result, found, objectives) for result in found.results],
            "contrasts": [
                _contrast(result, result.statement, found) for result in found.results if result.statement is not None
            ],
            "unproven": found.unproven or None,
            "caveats": list(found.caveats),
            "sentences": confirmation_sentences([found], objectives),
        }
        for found in confirmations
    ]


def _setting(result: FreshResult, found: Confirmation, objectives: Objectives) -> dict[str, Any]:
    setting = next(each for each in found.plan.settings if each.key == result.name.partition("@")[0])
    seeds, test = dict(zip(setting.fresh, found.plan.seeds, strict=True)), result.test_mean
    return {
        "candidate": result.name,
        "quality": objectives.quality,
        "fresh": list(setting.fresh),
        "num_planned": result.num_planned,
        "num_ended": result.num_ended,
        "num_failed": len(result.failures),
        "num_not_measured": result.num_missing,
        "chosen": result.chosen.value,
        "values": {str(seeds[point.key]): point.quality.value for point in result.points},
        "mean": result.mean,
        "stderr": result.stderr,
        "test": None
        if test is None
        else {"mean": test[0], "stderr": test[1], "values": [figure.value for figure in result.test]},
    }


def _contrast(result: FreshResult, statement: Statement, found: Confirmation) -> dict[str, Any]:
    """`low`, `high`: the difference is at least that, and at most that, each at the confidence. `look`: trainings of
    each that it is told from."""
    plan, is_bounded = found.plan, isfinite(statement.low)
    is_left = statement.verdict == "not told"
    return {
        "candidate": result.name,
        "against": plan.against,
        "within": plan.within,
        "confidence": plan.confidence,
        "verdict": statement.verdict,
        "look": statement.num_seeds,
        "better_by": statement.difference if isfinite(statement.difference) else None,
        "low": statement.low if is_bounded else None,
        "high": statement.high if is_bounded else None,
        "seeds_needed": seeds_needed(statement, plan.within, plan.confidence) if is_left else None,
        "condition": condition_document(statement.num_seeds) if is_bounded else None,
    }
