"""The error that bad data gives."""


class DataError(ValueError):
    """Data that cannot be used as asked; the message names the source, the value and what would be right."""
