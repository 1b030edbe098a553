"""Numbers of JSON files, which templates take as they are written and nested values as numbers."""


class NumberText(str):
    """The text of a number as it stands in a file: 1.10, 1e3."""

    __slots__ = ()

    @property
    def number(self) -> int | float:
        """Its value. Raises ValueError for an int of more digits than Python reads."""
        return int(self) if self.removeprefix("-").isdigit() else float(self)
