import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from prunedlora.adapters.attach import attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import shrink
from prunedlora.adapters.size import measure, served_layers
from prunedlora.servers.served_slot import HALF_BYTES, NUMBER_BYTES, SERVED_SLOTS, served_slot, slot_bytes


def test_a_fresh_adapter(make_model, settings):
    model = attach(make_model("bert").float(), settings("bert"), "default", 0)
    size = measure(model, "default")
    per_block = 4 * (4 * (16 + 16) + (16 + 24) + (24 + 16))
    assert size.adapter_params == 2 * per_block
    assert size.adapter_bytes == 4 * size.adapter_params
    assert size.head_params == (16 * 16 + 16) + (16 * 3 + 3)
    assert (size.max_rank, size.served_slot) == (4, 8)
    assert set(size.ranks.values()) == {4}


def test_unequal_ranks_and_rank_0(make_model, settings):
    model = attach(make_model("llama"), settings("llama"), "default", 0)
    layers = adapted_layers(model, "default")
    for layer in layers:
        shrink(layer, torch.arange(0), None)
    size = measure(model, "default")
    assert (size.adapter_params, size.adapter_bytes, size.head_params, size.max_rank) == (0, 0, 0, 0)
    model = attach(make_model("llama"), settings("llama", initial_rank=9), "default", 0)
    layers = adapted_layers(model, "default")
    for layer in layers[1:]:
        shrink(layer, torch.arange(1), None)
    size = measure(model, "default")
    assert (size.max_rank, size.served_slot, list(size.ranks.values())) == (9, 16, [9] + [1] * 13)


@pytest.mark.parametrize(("rank", "slot"), [(1, 1), (2, 8), (8, 8), (257, 320), (512, 512), (513, None)])
def test_served_slot(rank, slot, make_model, settings):
    model = attach(make_model("llama"), settings("llama", initial_rank=rank, target_modules=["q_proj"]), "default", 0)
    size = measure(model, "default")
    assert size.served_slot == served_slot(rank) == slot
    assert (size.served_slot_bytes is None) == (slot is None)


def stacked_tensors(config, rank, dtype):
    """The tensors of one slot of a Llama as vLLM allocates them (create_lora_weights of its layers, one GPU), by hand:
    fused projections hold a pair for each of their parts."""
    hidden, inner = config.hidden_size, config.intermediate_size
    heads = hidden // config.num_attention_heads
    fused = {
        "qkv_proj": (hidden, [hidden, config.num_key_value_heads * heads, config.num_key_value_heads * heads]),
        "o_proj": (hidden, [hidden]),
        "gate_up_proj": (hidden, [inner, inner]),
        "down_proj": (inner, [hidden]),
    }
    for d_in, parts in list(fused.values()) * config.num_hidden_layers:
        for d_out in parts:
            yield torch.empty(1, 1, rank, d_in, dtype=dtype, device="meta")
            yield torch.empty(1, 1, d_out, rank, dtype=dtype, device="meta")


@pytest.mark.parametrize("dtype", NUMBER_BYTES)
def test_a_slot_has_the_bytes_of_the_tensors_that_vllm_allocates(dtype, make_model, settings):
    model = attach(make_model("llama"), settings("llama"), "default", 0)
    layers = served_layers(model)
    for rank in SERVED_SLOTS:
        tensors = stacked_tensors(model.get_base_model().config, rank, getattr(torch, dtype))
        expected = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert slot_bytes(layers.linear, rank, NUMBER_BYTES[dtype]) == expected
    assert layers.embeddings == {"model.embed_tokens": (50, 16), "lm_head": (16, 50)}


@pytest.mark.parametrize("kind", ["bert", "llama", "llama_classifier", "gpt2"])
def test_a_slot_is_that_of_all_linear_layers_whatever_is_adapted(kind, make_model, settings):
    whole = attach(make_model(kind), settings(kind), "default", 0)
    layers = served_layers(whole)
    assert layers.linear.keys() == measure(whole, "default").ranks.keys()
    widths = {layer.name: (layer.A.shape[1], layer.B.shape[0]) for layer in adapted_layers(whole, "default")}
    assert layers.linear == widths
    first = next(iter(widths))
    part = attach(make_model(kind), settings(kind, target_modules=[first]), "default", 0)
    assert served_layers(part) == layers
    assert measure(part, "default").served_slot_bytes == slot_bytes(widths, 8, HALF_BYTES)


def test_an_adapted_embedding_is_in_the_slot(make_model, settings):
    model = attach(make_model("llama"), settings("llama", target_modules=["q_proj", "lm_head"]), "default", 0)
    layers = served_layers(model)
    assert layers.linear["lm_head"] == (16, 50)
    assert list(layers.embeddings) == ["model.embed_tokens"]


def test_experts_in_one_tensor_are_not_counted_as_none(settings):
    fields = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    fields |= {"num_key_value_heads": 1, "intermediate_size": 24}
    dense, experts = LlamaForCausalLM(LlamaConfig(**fields)), MixtralForCausalLM(MixtralConfig(**fields))
    assert served_layers(dense) is not None
    model = attach(experts, settings("llama", target_modules=["q_proj"]), "default", 0)
    assert served_layers(model) is None
    assert measure(model, "default").served_slot_bytes is None
