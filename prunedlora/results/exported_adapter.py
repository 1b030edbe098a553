"""ExportedAdapter: the recommended adapter after it was measured on the test split and exported."""

from typing import Literal

from prunedlora.results.record import SCHEMA_VERSION, Cut, Document, Figure, Key

RECOMMENDED_FOLDER = "recommended"
"""Of a store: the exported adapter."""


class ExportedAdapter(Document):
    schema_version: Literal[2] = SCHEMA_VERSION
    key: Key
    step: int
    cut: Cut | None = None
    """How it was made smaller without training."""
    test: dict[str, Figure]
    original_test: dict[str, Figure] | None = None
    """Of the adapter that its training began with, where that is another; None: it was not measured there."""
    serve_on: tuple[str, ...] = ()
    """Servers of the sweep then: forms that they need lie in folders within (delivery/served_folders.py)."""
    not_made: tuple[str, ...] = ()
    """Why some of these do not."""
    path: str
    """Local path or URI that the exported PEFT adapter was written to. A store that was copied or moved since has it in
    its own RECOMMENDED_FOLDER."""
