"""What a server does with an adapter, in words."""

from collections.abc import Mapping

from prunedlora.servers.treatment import HEAD, Applied, NotKnown, Refused, Treatment, Verdict, verdict


def said(treatment: Treatment) -> str:
    """For a table: the verdict, and what belongs to it."""
    found, more = verdict(treatment), why(treatment)
    if more is None:
        return found.value
    return f"{found.value} {more}" if found == Verdict.RIGHT_IF else f"{found.value}: {more}"


def why(treatment: Treatment) -> str | None:
    """What goes wrong, or else what has to hold besides, or the reason; None where it is right."""
    match treatment:
        case Applied(factors, needs):
            return "; ".join(text for text in (_dropped(factors), _scaled(factors)) if text) or needs
        case Refused(reason) | NotKnown(reason):
            return reason


def _dropped(factors: Mapping[str, float]) -> str:
    lost = [name for name, factor in factors.items() if factor == 0]
    if not lost:
        return ""
    if lost == [HEAD]:
        return "drops the trained head without a word"
    return f"drops {_some(lost, factors)} without a word"


def _scaled(factors: Mapping[str, float]) -> str:
    off = {name: factor for name, factor in factors.items() if factor not in (0, 1)}
    if not off:
        return ""
    most = max(off.values(), key=lambda factor: max(factor, 1 / factor))
    strength = f"{most:.3g} times too strong" if most > 1 else f"{1 / most:.3g} times too weak"
    return f"scales {_some(list(off), factors)} wrongly, up to {strength}"


def _some(names: list[str], factors: Mapping[str, float]) -> str:
    return f"`{names[0]}`" if len(names) == 1 else f"{len(names)} of {len(factors)} modules, as `{names[0]}`,"
