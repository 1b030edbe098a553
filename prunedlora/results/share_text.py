"""What part of its base model an adapter goes to, in words."""

from collections.abc import Mapping
from typing import Any

from prunedlora.results.record import TrialRecord

FACT = "adapted"
"""Where a record's facts of the model keep an AdaptedShare (adapters/adapted_share.py) as plain data."""


def share_text(share: Mapping[str, Any]) -> str:
    """One sentence without its full stop: "adapts 14 of 28 linear layers (45 % of the base's parameters); …"."""
    total = share["base_params"]
    parts = [
        f"adapts {share['num_layers']:,} of {share['num_linear']:,} linear layers "
        f"({_percent(share['layer_params'] / total)} of the base's parameters)"
    ]
    if share["unreached"]:
        where = ", ".join(f"{name} ({count:,})" for name, count in sorted(share["unreached"].items()))
        parts.append(f"no gradient from this task, so not adapted: {where}")
    if share["stacked"]:
        part, names = _percent(sum(share["stacked"].values()) / total), ", ".join(sorted(share["stacked"]))
        parts.append(f"experts stacked in one tensor ({part} of the base's parameters) are not adapted: {names}")
    if share["problem"]:
        parts.append(f"which layers get a gradient is not known, and all are taken to: {share['problem']}")
    return "; ".join(parts)


def record_share_text(record: TrialRecord) -> str | None:
    """The same of a recorded trial; None for full fine-tuning and for records that do not say."""
    share = record.environment.model.get(FACT)
    return share_text(share) if isinstance(share, Mapping) else None


def _percent(share: float) -> str:
    """Two digits at least, so that little is told from nothing."""
    return f"{share * 100:.2g} %" if share < 0.995 else f"{share * 100:.0f} %"
