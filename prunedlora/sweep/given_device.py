"""The device that a command computes on in its own process."""

import torch


class DeviceError(ValueError):
    """A device that is not there; the message says which are."""


def given_device(name: str | None) -> torch.device:
    """The device called "cpu", "cuda" or "cuda:1"; without a name the first GPU, where there is one, else the CPU.

    Raises DeviceError for another one, or one that this machine lacks.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        return torch.device("cuda" if num_gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is none of cpu, cuda, cuda:0, cuda:1 and so on")
    if device.type == "cuda" and not num_gpus:
        raise DeviceError(f"device {name!r}: this machine has no GPU that torch can use; leave it out, or give cpu")
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        gpus = "1 GPU" if num_gpus == 1 else f"{num_gpus} GPUs"
        raise DeviceError(f"device {name!r}: this machine has {gpus}; the first is cuda:0")
    return device
