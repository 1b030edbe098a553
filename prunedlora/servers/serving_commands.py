"""How one program serves an adapter."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Serving:
    """Shell commands, each in one line."""

    title: str
    """The program."""
    start: str
    """What starts the server with the adapter in it."""
    prepare: tuple[str, ...] = ()
    """What is run once before."""
    load: tuple[str, ...] = ()
    """How the adapter comes into a server that runs already: how that is started, then the request; () where the server
    has no such thing, or needs none."""
    request: str | None = None
    """A request that is answered as it was measured; None where `note` says why there is none."""
    note: str | None = None
    """What has to be known besides."""
