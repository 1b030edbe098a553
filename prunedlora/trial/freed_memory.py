"""Memory that was freed goes back to the node."""

import ctypes


def return_freed_memory() -> None:
    """Where the C library can (glibc): it keeps what was freed between what is in use, after millions of texts some 20
    bytes for each of their tokens, in every worker."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
