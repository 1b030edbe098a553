"""What a task reaches is found without weights, and is what autograd finds on the real model."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DeepseekV3Config,
    GPT2Config,
    GptOssConfig,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    Qwen2MoeConfig,
)

from prunedlora.adapters.adapted_share import adapted_share
from prunedlora.adapters.reach import Reach, ReachError, find_reach, reached_modules
from prunedlora.adapters.targets import LINEAR, TargetError, resolve_targets
from tests.families import GEMMA3, TEXT

INPUTS = {"input_ids": torch.tensor([[3, 4, 5, 6, 2]]), "attention_mask": torch.ones(1, 5, dtype=torch.int64)}
ENCODER = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (AutoModelForCausalLM, LlamaConfig(**TEXT)),
    "gpt2": (AutoModelForCausalLM, GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2)),
    "gemma3": (AutoModelForCausalLM, GEMMA3),
    "mixtral": (AutoModelForCausalLM, MixtralConfig(**TEXT, num_local_experts=4)),
    "gpt-oss": (AutoModelForCausalLM, GptOssConfig(**TEXT, num_local_experts=4)),
    "qwen2-moe": (
        AutoModelForCausalLM,
        Qwen2MoeConfig(**TEXT, num_experts=4, moe_intermediate_size=8, shared_expert_intermediate_size=8),
    ),
    "deepseek": (
        AutoModelForCausalLM,
        DeepseekV3Config(
            **TEXT | {"num_key_value_heads": 2}, n_routed_experts=4, moe_intermediate_size=8, n_group=1, topk_group=1,
            num_experts_per_tok=2, first_k_dense_replace=1, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8,
            qk_nope_head_dim=8, v_head_dim=8,
        ),
    ),
    "mamba": (AutoModelForCausalLM, MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2)),
    "jamba": (
        AutoModelForCausalLM,
        JambaConfig(
            vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=1, num_experts=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
            expert_layer_offset=1, use_mamba_kernels=False,
        ),
    ),
    "bert": (AutoModelForSequenceClassification, BertConfig(**ENCODER, intermediate_size=32)),
    "bart": (
        AutoModelForSequenceClassification,
        BartConfig(
            vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, eos_token_id=2,
        ),
    ),
}  # fmt: skip


def without_weights(kind: str) -> nn.Module:
    auto, config = MODELS[kind]
    with torch.device("meta"):
        model: nn.Module = auto.from_config(config)
    return model


def linear_names(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, LINEAR)}


def layers_with_gradient(model: nn.Module) -> set[str]:
    """The oracle: adapt every linear layer of the real model by hand, go backward, look who got a gradient."""
    deltas = {}
    for name, module in model.named_modules():
        if isinstance(module, LINEAR):
            deltas[name] = delta = nn.Parameter(torch.zeros(()))
            module.register_forward_hook(lambda _module, inputs, out, delta=delta: out + delta * inputs[0].mean())
    logits = model.eval().requires_grad_(False)(**INPUTS).logits
    logits.sum().backward()
    return {name for name, delta in deltas.items() if delta.grad is not None}


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_as_gradients_of_the_real_model(kind: str) -> None:
    model = without_weights(kind)
    before = [(name, id(parameter)) for name, parameter in model.named_parameters()]
    reached = reached_modules(model, INPUTS)
    auto, config = MODELS[kind]
    assert reached == layers_with_gradient(auto.from_config(config))
    assert [(name, id(parameter)) for name, parameter in model.named_parameters()] == before
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("kind", "missed", "count"),
    [
        ("llama", "", 0),
        ("bert", "", 0),
        ("gpt2", "", 0),
        ("gemma3", "model.vision_tower.", 15),
        ("mamba", "dt_proj", 2),
    ],
)
def test_what_gets_no_gradient(kind: str, missed: str, count: int) -> None:
    model = without_weights(kind)
    unreached = linear_names(model) - reached_modules(model, INPUTS)
    assert len(unreached) == count
    assert all(missed in name for name in unreached)


def test_all_linear_of_a_plain_model_is_what_it_was() -> None:
    for kind in ("llama", "gpt2", "bert"):
        model = without_weights(kind)
        everything = resolve_targets(model, "all-linear", [])
        assert resolve_targets(model, "all-linear", [], None, reached_modules(model, INPUTS)) == everything


class Mixture(nn.Module):
    """Experts as modules of their own, of which a token sees one; beside them a list of layers that is cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(4, 4)}) for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        x = self.layers[0](input_ids[..., None].float().expand(-1, -1, 4))
        self.layers[1](x)  # called, and not used
        return type("Output", (), {"logits": self.experts[1]["up"](x)})


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Mixture()

    def forward(self, **inputs: Tensor) -> Any:
        return self.block(**inputs)


def test_an_expert_that_no_token_was_sent_to_is_reached_and_an_unused_layer_is_not() -> None:
    experts = {f"block.experts.{index}.up" for index in range(3)}
    assert reached_modules(Outer(), INPUTS) == {"block.layers.0", *experts}


class OnGpuAlone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)

    def forward(self, **_: Tensor) -> Any:
        raise RuntimeError("this kernel needs CUDA")


def test_a_model_that_cannot_be_run_without_weights_is_adapted_whole_and_says_so() -> None:
    model = OnGpuAlone().train()
    with pytest.raises(ReachError, match="OnGpuAlone cannot be run without its weights: this kernel needs CUDA"):
        reached_modules(model, INPUTS)
    assert model.training
    reach = find_reach(model, INPUTS)
    assert reach == Reach(None, "OnGpuAlone cannot be run without its weights: this kernel needs CUDA")
    share = adapted_share(model, [], resolve_targets(model, "all-linear", [], None, reach.modules), reach)
    assert (share.num_layers, share.problem) == (1, reach.problem)


@pytest.mark.parametrize(
    ("kind", "targets", "message"),
    [
        ("gemma3", ["fc1"], r"'fc1' gets no gradient: the task does not reach model\.vision_tower\..*layers\.0\.mlp"),
        ("mamba", ["dt_proj"], r"'dt_proj' gets no gradient: .*layers\.0\.mixer\.dt_proj, .*layers\.1\.mixer\.dt_proj"),
        ("mixtral", ["down_proj"], r"experts stacked in one tensor are not adapted: down_proj, gate_up_proj"),
        ("mixtral", ["experts"], r"is a MixtralExperts, not a linear layer; experts .*0\.mlp\.experts\.down_proj"),
    ],
)  # fmt: skip
def test_what_was_named_and_cannot_train_is_refused(kind: str, targets: list[str], message: str) -> None:
    model = without_weights(kind)
    with pytest.raises(TargetError, match=message):
        resolve_targets(model, targets, [], None, reached_modules(model, INPUTS))


def test_an_ending_takes_what_is_reached_and_a_full_name_that_is_not_is_refused() -> None:
    model = without_weights("gemma3")
    reached = reached_modules(model, INPUTS)
    both = resolve_targets(model, ["q_proj"], [])
    assert any("vision_tower" in name for name in both)
    assert resolve_targets(model, ["q_proj"], [], None, reached) == [name for name in both if "language" in name]
    vision = next(name for name in both if "vision_tower" in name)
    with pytest.raises(TargetError, match=f"'{vision}' gets no gradient"):
        resolve_targets(model, ["q_proj", vision], [], None, reached)


def test_nothing_reached_is_refused() -> None:
    with pytest.raises(TargetError, match="the task reaches none of the model's 14 linear layers"):
        resolve_targets(without_weights("llama"), "all-linear", [], None, frozenset())


@pytest.mark.parametrize(
    ("kind", "layers", "linear", "unreached", "stacked"),
    [
        ("llama", 14, 14, {}, []),
        ("gemma3", 14, 29, {"model.vision_tower": 15}, []),
        ("mamba", 4, 8, {"backbone.layers.*.mixer.dt_proj": 2}, []),
        ("mixtral", 8, 8, {}, ["model.layers.*.mlp.experts.down_proj", "model.layers.*.mlp.experts.gate_up_proj"]),
    ],
)
def test_the_share_that_is_adapted(
    kind: str, layers: int, linear: int, unreached: dict[str, int], stacked: list[str]
) -> None:
    model = without_weights(kind)
    reach = find_reach(model, INPUTS)
    targets = resolve_targets(model, "all-linear", [], None, reach.modules)
    share = adapted_share(model, [], targets, reach)
    assert (share.num_layers, share.num_linear, share.problem) == (layers, linear, None)
    assert share.unreached == unreached
    assert sorted(share.stacked) == stacked
    weights = dict(model.named_parameters())
    assert share.layer_params == sum(weights[f"{name}.weight"].numel() for name in targets)
    assert share.base_params == sum(weight.numel() for weight in weights.values())
    assert sum(share.stacked.values()) == sum(weight.numel() for name, weight in weights.items() if "experts" in name)


class Largest(TorchDispatchMode):
    """Notes the most numbers that the result of an operation holds in memory of its own."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_a_large_model_takes_no_memory() -> None:
    """32 GB of weights; the largest tensor made is the logits of five tokens."""
    config = LlamaConfig(vocab_size=128_000, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with Largest() as largest:
        assert len(reached_modules(model, INPUTS)) == 32 * 7 + 1
    assert largest.numbers == 5 * 128_000
