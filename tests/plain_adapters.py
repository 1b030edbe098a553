"""Adapters made by plain PEFT on a small network of linear layers of different shapes, as others bring them."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PREFIX = "base_model.model."


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width + 3)


class Tower(nn.Module):
    """Eleven pairs of layers in two shapes, an embedding, a convolution and a head; it never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 10)
        self.blocks = nn.ModuleList(Block(10 if index < 9 else 14) for index in range(11))
        self.image = nn.Conv2d(3, 5, 2)
        self.score = nn.Linear(10, 3)


def saved_adapter(folder: Path, zero: bool = False, **fields: Any) -> PeftModel:
    """Saves an adapter whose singular values fall, B zero where `zero`, and returns the model that it is on."""
    settings = {"r": 6, "lora_alpha": 9, "target_modules": ["query", "up"], **fields}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(4)
        adapted = get_peft_model(Tower(), LoraConfig(**settings))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if not parameter.requires_grad:
                    continue
                if "lora_B" in name and not zero:
                    # Layers differ in size by powers of two, and components fall.
                    falling = torch.logspace(0, -2, parameter.shape[-1]) * 2.0 ** (int(torch.randint(-3, 3, ())))
                    parameter.copy_(torch.randn_like(parameter) * falling)
                elif "modules_to_save" in name:
                    parameter.add_(torch.randn_like(parameter))
        adapted.save_pretrained(str(folder))
    return adapted


def updates(model: PeftModel) -> dict[str, Tensor]:
    """Layer → the update that PEFT adds to its weight, by the factors and scalings of its modules, in float64."""
    modules = {name.removeprefix(PREFIX): each for name, each in model.named_modules() if hasattr(each, "lora_A")}
    return {
        name: each.scaling["default"] * _factor(each.lora_B) @ _factor(each.lora_A) for name, each in modules.items()
    }


def _factor(modules: Any) -> Tensor:
    weight: Tensor = modules["default"].weight
    return weight.detach().double()


def loaded(folder: Path) -> PeftModel:
    """The folder on a new Tower, by PEFT."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(4)
        return PeftModel.from_pretrained(Tower(), str(folder))


def change_weights(folder: Path, **changed: Tensor | None) -> None:
    """Sets tensors of the file, `.` in their names written `__` and the prefix left out; None removes one."""
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    for name, tensor in changed.items():
        key = PREFIX + name.replace("__", ".")
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor.contiguous()
    save_file(state, path)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
