"""What stops a sweep file from being made."""


class InitError(ValueError):
    """Model and data from which no sweep can be made as they are; the message says what would do."""
