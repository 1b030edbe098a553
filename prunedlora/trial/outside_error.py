"""The errors of what goes on around a trial; a file of its own, since the driver and Tune's proxies import no torch."""


class OutsideError(RuntimeError):
    """Trouble around a trial that is none of its doing: it leaves no record, and the trial goes on from its last
    checkpoint. Whoever runs trials derives its own from it, as fleet/ does for what Ray loses."""


class NodeError(OutsideError):
    """What the node has not done for a trial: to load a model or data, to keep a device or room on its disk; the
    message says on which node, and why."""
