"""ExportedAdapter: the recommended adapter after it was measured on the test split and exported."""

from prunedlora.results.record import Document, Figure, Key


class ExportedAdapter(Document):
    key: Key
    step: int
    truncated_rank: int | None = None
    test: dict[str, Figure]
    path: str
    """Local path or URI of the exported PEFT adapter."""
