"""Losses of target positions equal those of a whole head, whatever a model does with its logits."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from prunedlora.adapters.layers import adapted_layers
from prunedlora.pruning.curvature import TokenCurvature
from prunedlora.tasks import target_losses as module
from prunedlora.tasks.target_losses import ALL_AT_ONCE, CHUNK_LOGITS, target_losses

VOCABULARY, TOKENS = 50, 12
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
Make = Callable[[], PreTrainedModel]


class NoRows(LlamaForCausalLM):
    """Its logits depend on where a row stands: none can be left out."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * (1 + torch.arange(output.logits.shape[1])[:, None])
        return output


class NoModule(LlamaForCausalLM):
    """Never calls its output embedding as a module."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.model(kwargs["input_ids"], kwargs["attention_mask"])
        output.logits = functional.linear(output.last_hidden_state, self.lm_head.weight)
        return output


MODELS: dict[str, tuple[Make, int | None]] = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES)), CHUNK_LOGITS // VOCABULARY),
    "tied": (
        lambda: GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32,
                       embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
        ),
        CHUNK_LOGITS // VOCABULARY,
    ),
    "capped": (
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, attn_implementation="eager")),
        ALL_AT_ONCE,
    ),
    "divided": (lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)), ALL_AT_ONCE),
    "multiplied": (lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.06)), ALL_AT_ONCE),
    "no rows": (lambda: NoRows(LlamaConfig(**SIZES)), None),
    "no module": (lambda: NoModule(LlamaConfig(**SIZES)), None),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def batch() -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Four rows padded on the right; targets are each row's last tokens."""
    torch.manual_seed(1)
    lengths, answers = [12, 9, 7, 3], [5, 8, 1, 2]
    mask = torch.tensor([[1] * n + [0] * (TOKENS - n) for n in lengths])
    ids = torch.randint(3, VOCABULARY, mask.shape) * mask
    positions = torch.tensor(
        [r * TOKENS + p - 1 for r, (n, a) in enumerate(zip(lengths, answers, strict=True)) for p in range(n - a, n)]
    )
    return {"input_ids": ids, "attention_mask": mask}, positions, ids.flatten()[positions + 1]


def by_the_formula(model: nn.Module, inputs: dict[str, Tensor], positions: Tensor, targets: Tensor) -> Tensor:
    logits = model(**inputs, use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1)[positions], targets, reduction="none")


def gradients(model: nn.Module, losses: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    losses.sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def make(name: str) -> nn.Module:
    """In float64, with weights that make the model say something."""
    torch.manual_seed(0)
    model = MODELS[name][0]().double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def assert_equal_to_the_formula(model: nn.Module) -> None:
    inputs, positions, targets = batch()
    found, expected = (
        target_losses(model, inputs, positions, targets),
        by_the_formula(model, inputs, positions, targets),
    )
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    by_formula, by_positions = gradients(model, expected), gradients(model, found)
    assert by_formula.keys() == by_positions.keys() != set()
    for name, gradient in by_formula.items():
        torch.testing.assert_close(by_positions[name], gradient, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("chunk", [CHUNK_LOGITS, 7 * VOCABULARY, 1])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_the_whole_head(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_LOGITS", chunk)
    assert_equal_to_the_formula(make(name).train())


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_does_with_its_logits_is_found_out(name: str) -> None:
    """Once per model object, and without a trace."""
    model = make(name).train()
    inputs, positions, targets = batch()
    target_losses(model, inputs, positions, targets)
    assert module._POSITIONS_AT_ONCE[model] == MODELS[name][1]
    assert model.training
    assert not any(m._forward_pre_hooks for m in model.modules())
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    target_losses(model, inputs, positions, targets)
    assert seen == [1]


def test_a_cap_is_seen_where_logits_are_small() -> None:
    """In float32 a cap of 30 does not change logits of 0.01."""
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, initializer_range=1e-3))
    inputs, positions, targets = batch()
    with torch.no_grad():
        assert model(**inputs).logits.abs().max() < 0.05
    target_losses(model, inputs, positions, targets)
    assert module._POSITIONS_AT_ONCE[model] == ALL_AT_ONCE


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, how) for name in ("llama", "tied", "capped") for how in ("adapted", "trained whole")),
        ("no module", "trained whole"),
    ],
)
def test_a_head_that_trains(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_LOGITS", 7 * VOCABULARY)
    attention = "c_attn" if name == "tied" else "q_proj"
    config = (
        LoraConfig(r=2, target_modules=[attention, "lm_head"])
        if how == "adapted"
        else LoraConfig(r=2, target_modules=[attention], modules_to_save=["lm_head"])
    )
    model = get_peft_model(make(name), config).double()
    for parameter in (p for p in model.parameters() if p.requires_grad):
        nn.init.normal_(parameter, std=0.3)
    assert_equal_to_the_formula(model)


def test_statistics_of_an_adapted_head_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are computed twice and counted once."""
    monkeypatch.setattr(module, "CHUNK_LOGITS", 7 * VOCABULARY)
    model = get_peft_model(make("llama"), LoraConfig(r=2, target_modules=["q_proj", "lm_head"])).double()
    for parameter in (p for p in model.parameters() if p.requires_grad):
        nn.init.normal_(parameter, std=0.3)
    curvature = TokenCurvature(adapted_layers(model, "default"), "B")
    inputs, positions, targets = batch()
    collected = []
    for losses in (target_losses, by_the_formula):
        losses(model, inputs, positions, targets).sum().backward()
        collected.append(curvature.collect())
    for found, expected in zip(*collected, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_head_computes_no_more_than_a_chunk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_LOGITS", 7 * VOCABULARY)
    model = make("llama")
    inputs, positions, targets = batch()
    target_losses(model, inputs, positions, targets)
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _, arguments, output: rows.append(output.shape[:-1].numel()))
    with torch.no_grad():
        target_losses(model, inputs, positions, targets)
    assert sorted(rows) == [2, 7, 7]  # 16 targets of 48 positions
    rows.clear()
    target_losses(model, inputs, positions, targets).sum().backward()
    assert sorted(rows) == [2, 7, 7, 7, 7]  # all but the last again in the backward pass


def test_in_bfloat16_losses_are_float32() -> None:
    model = copy.deepcopy(make("llama")).bfloat16()
    inputs, positions, targets = batch()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        losses = target_losses(model, inputs, positions, targets)
        expected = by_the_formula(model, inputs, positions, targets)
    assert losses.dtype == torch.float32
    assert module._POSITIONS_AT_ONCE[model] == CHUNK_LOGITS // VOCABULARY
    torch.testing.assert_close(losses, expected.float(), rtol=0.02, atol=0.02)


class Reads(TorchDispatchMode):
    """Counts operations for which the CPU waits for a device."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, packet = torch.ops.aten, func.overloadpacket
        by_mask = packet is aten.index and any(index is not None and index.dtype == torch.bool for index in args[1])
        self.number += by_mask or packet in {aten.nonzero, aten._local_scalar_dense, aten.masked_select}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["llama", "capped"])
def test_nothing_is_read_from_the_device_but_by_the_model(name: str) -> None:
    model = make(name)
    inputs, positions, targets = batch()
    target_losses(model, inputs, positions, targets)
    with Reads() as of_model:
        model(**inputs, use_cache=False)
    with Reads() as of_losses:
        target_losses(model, inputs, positions, targets)
    assert of_losses.number == of_model.number
    with Reads() as by_mask:
        positions[positions > 0].nonzero()
    assert by_mask.number == 2
