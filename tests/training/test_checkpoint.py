from pathlib import Path

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


def test_optimizer_state_by_name_goes_on_the_same() -> None:
    def run(restore_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for step in range(6):
            if step == restore_at:
                saved = {name: value.clone() for name, value in optimizer_tensors(optimizer, model).items()}
                optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
                load_optimizer_tensors(optimizer, model, saved)
            optimizer.zero_grad()
            model(torch.full((1, 3), float(step))).square().sum().backward()
            optimizer.step()
        return model.weight.detach()

    assert torch.equal(run(None), run(3))
