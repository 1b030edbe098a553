"""What is said of a confirmation, for the terminal, the page and the card."""

from collections.abc import Iterable
from math import isfinite

from prunedlora.results.analysis.confirmation import Confirmation, FreshResult
from prunedlora.results.analysis.pareto import Objectives
from prunedlora.results.ask import ConfirmationPlan
from prunedlora.results.figure_text import counted


def confirmation_sentences(confirmations: Iterable[Confirmation], objectives: Objectives) -> list[str]:
    """One sentence or two for every adapter in question, without markup."""
    return [_sentence(result, found.plan, objectives) for found in confirmations for result in found.results]


def fresh_sentences(confirmations: Iterable[Confirmation], name: str, objectives: Objectives) -> list[str]:
    """The same for one adapter, of every confirmation that asked for it: its own seeds tell each, and when there are
    several no error is shared between them."""
    found = [(each, result) for each in confirmations if (result := each.result_of(name)) is not None]
    lines = [f"Trained again: {_sentence(result, each.plan, objectives)}" for each, result in found]
    if len(lines) > 1:
        lines.append(f"Each of these {len(lines)} confirmations holds by itself; the first is the one to believe.")
    return lines


def fresh_text(result: FreshResult) -> str:
    """ "MEAN ± ERROR over 3 fresh seeds"; empty while there is none."""
    if result.mean is None:
        return ""
    return f"{_mean_text(result.mean, result.stderr)} over {counted(len(result.points), 'fresh seed')}"


def _sentence(result: FreshResult, plan: ConfirmationPlan, objectives: Objectives) -> str:
    parts = [f"{objectives.quality} {fresh_text(result)}" if result.points else "nothing measured yet"]
    parts.append(f"chosen at {result.chosen.value:.3f}")
    if result.test_mean is not None:
        parts.append(f"test {_mean_text(*result.test_mean)}")
    if result.failures:
        first = result.failures[0].failure
        reason = "" if first is None else f" ({first.type}: {first.message.splitlines()[0] if first.message else ''})"
        parts.append(f"{len(result.failures)} of {result.num_ended} fresh trainings failed{reason}")
    if result.num_missing:
        parts.append(
            f"{result.num_missing} of {result.num_ended} did not measure it (a smaller one beat it in loss, or it was "
            "passed over)"
        )
    return f"{result.name}: {', '.join(parts)}. {_told(result, plan)}"


def _told(result: FreshResult, plan: ConfirmationPlan) -> str:
    statement, sure = result.statement, f"{100 * plan.confidence:g} %"
    if plan.against is None:
        return "It was compared with nothing."
    if statement is None:
        return "With it the others are compared."
    other = f"than {plan.against}"
    if statement.verdict == "confirmed":
        return f"Confirmed: at most {plan.within:g} worse {other} ({sure})."
    if statement.verdict == "refuted":
        return f"Refuted: more than {plan.within:g} worse {other} ({sure})."
    if statement.verdict == "failed":
        return "Not confirmed: a fresh training of it failed."
    if statement.verdict == "open":
        return f"Open: {statement.num_seeds} trainings of each are to tell."
    if not isfinite(statement.difference):
        return "Not told: it could not be compared with fresh trainings of what it stands beside."
    measured = f"{abs(statement.difference):.3f} {'worse' if statement.difference < 0 else 'better'}"
    return (
        f"Not told: measured {measured} {other}, and {statement.num_seeds} fresh trainings of each do not tell whether "
        f"it is at most {plan.within:g} worse."
    )


def _mean_text(mean: float, stderr: float | None) -> str:
    return f"{mean:.3f}" + ("" if stderr is None else f" ± {stderr:.3f}")
