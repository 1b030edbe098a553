"""Sizes of an adapter: what a sweep may minimize, all recorded with every candidate."""

from enum import StrEnum, auto


class Size(StrEnum):
    """A member's text is its name in sweep files, records and pages."""

    ADAPTER_PARAMS = auto()
    ADAPTER_BYTES = auto()
    FILE_BYTES = auto()
    MAX_RANK = auto()
    SERVED_SLOT = auto()
    SERVED_SLOT_BYTES = auto()


SIZES = tuple(size.value for size in Size)
"""Their names as plain text."""
