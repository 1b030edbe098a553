"""The error of what goes on around a trial; a file of its own, since the driver and Tune's proxies import no torch."""


class OutsideError(RuntimeError):
    """Trouble around a trial that is none of its doing: it leaves no record, and the trial goes on from its last
    checkpoint. Whoever runs trials derives its own from it, as fleet/ does for what Ray loses."""
