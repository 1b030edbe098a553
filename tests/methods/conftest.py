"""A tiny BERT classifier and a short training of it with any method."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from prunedlora.adapters.attach import AdapterSettings
from prunedlora.registry import lookup
from tests.methods.settings import BY_SECTION

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other

NUM_STEPS = 12


@pytest.fixture
def make_base() -> Callable[[], nn.Module]:
    """The base model, the same weights every time."""

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = BertConfig(
                vocab_size=40,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=12,
                num_labels=3,
            )
            return BertForSequenceClassification(config)

    return make


@pytest.fixture
def adapter() -> AdapterSettings:
    return AdapterSettings(6, 6.0, False, 0.1, "all-linear", ["bert.pooler", "classifier"])


@pytest.fixture
def make_method(adapter) -> Callable[..., Any]:
    """A registered method by name; overrides go to the settings of its section, if it has any."""

    def make(name: str, **overrides: Any) -> Any:
        kind = lookup("method", name)
        fields = BY_SECTION[kind.section] | overrides
        settings = None if kind.settings_type is None else kind.settings_type(**fields)
        return kind(None if name == "full" else adapter, 0, NUM_STEPS, settings)

    return make


@pytest.fixture
def train() -> Callable[..., list[Any]]:
    """Steps `first` to `last` as the loop takes them, dropout seeded by step; returns the events."""

    def run(method: Any, model: nn.Module, optimizer: Any, first: int = 1, last: int = NUM_STEPS) -> list[Any]:
        events = []
        model.train()
        for step in range(first, last + 1):
            generator = torch.Generator().manual_seed(step)
            ids = torch.randint(1, 40, (4, 6), generator=generator)
            labels = ids[:, 0] % 3
            torch.manual_seed(1000 + step)
            logits = model(input_ids=ids).logits
            nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= len(labels)
            method.penalise()
            method.observe(len(labels))
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            events.append(method.step(step, step / NUM_STEPS, optimizer))
            optimizer.zero_grad()
        return [event for event in events if event is not None]

    return run


@pytest.fixture
def make_optimizer() -> Callable[..., torch.optim.Optimizer]:
    """As the product groups parameters: factors and head, then the method's own."""

    def make(model: nn.Module, method: Any) -> torch.optim.Optimizer:
        own = method.own_groups()
        own_parameters = {parameter for group in own for parameter in group.parameters}
        body = [p for p in model.parameters() if p.requires_grad and p not in own_parameters]
        groups: list[dict[str, Any]] = [{"params": body}]
        groups += [{"params": g.parameters, "lr": g.learning_rate, "weight_decay": 0.0} for g in own]
        return torch.optim.AdamW(groups, lr=1e-2)

    return make
