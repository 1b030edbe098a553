import pytest
import torch

from prunedlora.adapters.attach import attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import shrink
from prunedlora.adapters.size import measure


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
    assert measure(model, "default").served_slot == slot
