"""What is said of a confirmation, for the terminal, the page and the card."""

from collections.abc import Iterable
from math import isfinite

from prunedlora.results.analysis.confirmation import Confirmation, FreshResult
from prunedlora.results.analysis.looks import MOST_SEEDS, Statement, seeds_needed
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.analysis.seeds_condition import condition_text, fallen_text
from prunedlora.results.figure_text import counted, percent


def confirmation_sentences(confirmations: Iterable[Confirmation], objectives: Objectives) -> list[str]:
    """One sentence or two for every adapter in question, without markup."""
    return [_sentence(result, found, objectives) for found in confirmations for result in found.results]


def fresh_sentences(confirmations: Iterable[Confirmation], name: str, objectives: Objectives) -> list[str]:
    """The same for one adapter, of every confirmation that asked for it, with what is told of those that were compared
    with it: its own seeds tell each, and when there are several no error is shared between them."""
    found = [(each, result) for each in confirmations if (result := each.result_of(name)) is not None]
    lines = []
    for each, result in found:
        lines.append(f"Trained again: {_sentence(result, each, objectives)}")
        beside = [other for other in each.results if result.statement is None and other.statement is not None]
        lines += [_sentence(other, each, objectives) for other in beside]
    if len(found) > 1:
        lines.append(f"Each of these {len(found)} confirmations holds by itself; the first is the one to believe.")
    return lines


def fresh_text(result: FreshResult) -> str:
    """ "MEAN ± ERROR over 3 fresh seeds"; empty while there is none."""
    if result.mean is None:
        return ""
    return f"{_mean_text(result.mean, result.stderr)} over {counted(len(result.points), 'fresh seed')}"


def _sentence(result: FreshResult, found: Confirmation, objectives: Objectives) -> str:
    parts = [f"{objectives.quality} {fresh_text(result)}" if result.points else "nothing measured yet"]
    parts.append(f"chosen at {result.chosen.value:.3f}")
    if result.test_mean is not None:
        parts.append(f"test {_mean_text(*result.test_mean)}")
    if result.failures:
        first = result.failures[0].failure
        reason = "" if first is None else f" ({first.type}: {first.message.splitlines()[0] if first.message else ''})"
        parts.append(f"{len(result.failures)} of {counted(result.num_ended, 'fresh training')} failed{reason}")
    if result.num_missing:
        parts.append(
            f"{result.num_missing} of {result.num_ended} did not measure it (a smaller one beat it in loss, or it was "
            "passed over)"
        )
    figures = [point.quality for point in result.points]
    if fallen := fallen_text(figures, found.plan.within, maximize=objectives.maximize):
        parts.append(fallen)
    return f"{result.name}: {', '.join(parts)}. {_told(result, found)}"


def _told(result: FreshResult, found: Confirmation) -> str:
    plan, statement = found.plan, result.statement
    if plan.against is None:
        return "It was compared with nothing."
    if statement is None:
        return "With it the others are compared."
    other = f"than {plan.against}"
    sure = f"{percent(plan.confidence)}, {condition_text(statement.num_seeds)}"
    if statement.verdict == "confirmed":
        return f"Confirmed: at most {plan.within:g} worse {other} ({sure})."
    if statement.verdict == "refuted":
        return f"Refuted: more than {plan.within:g} worse {other} ({sure})."
    if statement.verdict == "failed":
        return "Not confirmed: a fresh training of it failed."
    if statement.verdict == "open":
        count = statement.num_seeds
        return f"Open: {counted(count, 'training')} of each {'is' if count == 1 else 'are'} to tell."
    if not isfinite(statement.difference):
        return "Not told: it could not be compared with fresh trainings of what it stands beside."
    measured = f"{abs(statement.difference):.3f} {'worse' if statement.difference < 0 else 'better'}"
    if statement.verdict == "measured":
        return f"Measured {measured} {other}; whether it is so is not said: {found.unproven}."
    count = statement.num_seeds
    not_told = f"{counted(count, 'fresh training')} of each {'does' if count == 1 else 'do'} not tell whether"
    if not isfinite(statement.low):
        return f"Not told: measured {measured} {other}, and {not_told} it is at most {plan.within:g} worse."
    upper = f"at most {statement.high:.3f} better" if statement.high > 0 else f"at least {-statement.high:.3f} worse"
    return (
        f"Not told: measured {measured} {other}, at most {-statement.low:.3f} worse and {upper} ({sure}): {not_told} "
        f"it is at most {plan.within:g} worse. {_remedy(statement, found)}"
    )


def _remedy(statement: Statement, found: Confirmation) -> str:
    """What would tell it."""
    plan = found.plan
    needed = seeds_needed(statement, plan.within, plan.confidence)
    if needed is None:
        return f"It measured so near the limit, for its spread, that {MOST_SEEDS} trainings of each would hardly tell."
    return (
        f"If mean and spread stay, about {needed} fresh trainings of each would: --seeds {needed} asks anew, with "
        f"seeds of their own; --seeds {plan.looks[0]} --most-seeds {needed} ends at {plan.looks[0]} if these tell."
    )


def _mean_text(mean: float, stderr: float | None) -> str:
    return f"{mean:.3f}" + ("" if stderr is None else f" ± {stderr:.3f}")
