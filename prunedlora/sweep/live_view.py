"""Live view: what goes on, on a terminal; and lines that stay, which are all that there is elsewhere (a job's log)."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from prunedlora.plain_print import print_plain


class LiveView:
    """As a context manager it shows, and keeps the terminal tidy."""

    def __init__(self, console: Console, shown: Callable[[], RenderableType]) -> None:
        """`shown`: asked twice a second, by a thread of the view's own."""
        self._console = console
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, refresh_per_second=2, transient=True, get_renderable=shown)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def is_live(self) -> bool:
        """Whether what goes on is seen without lines."""
        return self._live is not None

    def say(self, text: str) -> None:
        """One line that stays."""
        print_plain(self._console, text)
