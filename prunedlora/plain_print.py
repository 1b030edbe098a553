"""Text on the terminal as it is: brackets in a path are no markup, :key: in a name is no emoji, nothing is wrapped."""

from rich.console import Console


def print_plain(console: Console, text: str, *, end: str = "\n") -> None:
    """Prints what may hold anything: paths, names, labels, messages, JSON."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True, end=end)
