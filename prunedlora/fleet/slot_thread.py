"""The threads that wait for slots. One whose slot hangs cannot be ended, and Ray must not be shut down under it: that
ends the process, with a status of Ray's own."""

import threading


class SlotThread(threading.Thread):
    """Holds one slot; ends with it."""


def slots_are_left() -> bool:
    """Whether a slot of this process has still to end."""
    return any(isinstance(thread, SlotThread) for thread in threading.enumerate())
