import pytest
import torch

from prunedlora.sweep.given_device import DeviceError, given_device


@pytest.mark.parametrize(
    ("num_gpus", "name", "device"), [(0, None, "cpu"), (2, None, "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1")]
)
def test_the_gpu_where_there_is_one(
    num_gpus: int, name: str | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(num_gpus, monkeypatch)
    assert given_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("num_gpus", "name", "message"),
    [
        (0, "gpu", "device 'gpu' is none of cpu, cuda, cuda:0"),
        (0, "meta", "device 'meta' is none of cpu"),
        (0, "cuda", "device 'cuda': this machine has no GPU that torch can use; leave it out, or give cpu"),
        (1, "cuda:1", "device 'cuda:1': this machine has 1 GPU; the first is cuda:0"),
        (2, "cuda:2", "device 'cuda:2': this machine has 2 GPUs; the first is cuda:0"),
    ],
)
def test_what_is_not_there(num_gpus: int, name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has(num_gpus, monkeypatch)
    with pytest.raises(DeviceError, match=message):
        given_device(name)


def has(num_gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
