from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from prunedlora.training.checkpoint import (
    CheckpointError,
    load_optimizer_tensors,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)

CPU = torch.device("cpu")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 0), "b": torch.arange(4.0).view(2, 2).t()}
    write_checkpoint(tmp_path / "c", tensors, {"step": 3, "seconds": 0.1})
    read, state = read_checkpoint(tmp_path / "c", CPU, "c")
    assert state == {"step": 3, "seconds": 0.1}
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("damage", ["cut", "flipped", "no tensors", "no state", "no json"])
def test_a_broken_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "c"
    write_checkpoint(folder, {"a": torch.ones(100)}, {})
    content = (folder / "tensors.safetensors").read_bytes()
    match damage:
        case "cut":
            (folder / "tensors.safetensors").write_bytes(content[:-7])
        case "flipped":
            (folder / "tensors.safetensors").write_bytes(content[:-1] + b"x")
        case "no tensors":
            (folder / "tensors.safetensors").unlink()
        case "no state":
            (folder / "state.json").unlink()
        case "no json":
            (folder / "state.json").write_text("{")
    with pytest.raises(
        CheckpointError, match=r"checkpoint s3://x/c is broken.*delete it and run again with --retry-failed"
    ):
        read_checkpoint(folder, CPU, "s3://x/c")


def test_nan_in_the_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_checkpoint(tmp_path / "c", {}, {"loss": float("nan")})


@pytest.mark.parametrize("fused", [False, True])
def test_optimizer_state_by_name_goes_on_the_same(fused: bool, tmp_path: Path) -> None:
    """Also through a file, where a weight lies in another order of memory than its state comes back in."""

    def run(restore_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        model.weight = nn.Parameter(torch.randn(3, 2).t())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        for step in range(6):
            if step == restore_at:
                write_checkpoint(tmp_path / "c", optimizer_tensors(optimizer, model), {})
                optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
                load_optimizer_tensors(optimizer, model, read_checkpoint(tmp_path / "c", CPU, "c")[0])
            optimizer.zero_grad()
            model(torch.tensor([[1.0, 2.0, float(step)]])).square().sum().backward()
            optimizer.step()
        return model.weight.detach()

    assert torch.equal(run(None), run(3))


class Recorded(torch.Tensor):
    """Remembers where it was sent."""

    sent: ClassVar[list[object]] = []

    def to(self, *args: object, **kwargs: object) -> torch.Tensor:
        self.sent.append(args[0])
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize(("fused", "where"), [(True, torch.device("meta")), (False, "cpu")])
def test_a_fused_optimizer_has_its_step_count_on_the_device(
    fused: bool, where: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorded, "sent", [])
    model = nn.Linear(3, 2, device="meta")
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.param_groups[0]["fused"] = fused  # torch has no fused kernel for meta
    step = torch.tensor(3.0).as_subclass(Recorded)
    load_optimizer_tensors(optimizer, model, {"weight|step": step})
    assert Recorded.sent == [where]
