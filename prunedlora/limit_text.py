"""Limits on sizes in words, as pages, plans and messages have them."""

from collections.abc import Mapping
from math import isinf


def limit_text(constraints: Mapping[str, float]) -> str:
    """ "adapter_params ≤ 2,000,000, served_slot ≤ 16" """
    return ", ".join(f"{axis} ≤ {amount_text(limit)}" for axis, limit in constraints.items())


def amount_text(amount: float) -> str:
    """A size or a limit: whole numbers with separators."""
    if isinf(amount):  # a served slot above all that servers offer
        return "none that servers offer"
    return f"{int(amount):,}" if amount == int(amount) else f"{amount:,}"
