import pytest
import torch

from prunedlora.adapters.layers import adapted_layers
from prunedlora.methods.droplora import rank_mask

PROBABILITY = 0.3


def started(model):
    """B off zero, so that the components do something."""
    layers = adapted_layers(model, "default")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        for layer in layers:
            layer.B.normal_(std=0.3)
    return layers


@pytest.mark.parametrize("granularity", ["element", "rank"])
def test_the_mean_over_many_masks_is_the_evaluation_forward(granularity, make_base, make_method, adapter):
    """Of one layer, since dropout commutes with linear maps only."""
    method = make_method("droplora", probability=PROBABILITY, granularity=granularity)
    model = method.attach(make_base(), "default")
    layer = started(model)[0]
    x = torch.randn(2, 5, layer.lora_A.in_features, generator=torch.Generator().manual_seed(1))
    layer.module.lora_dropout["default"] = torch.nn.Identity()
    layer.module.eval()
    expected = layer.module(x)
    layer.module.train()
    torch.manual_seed(0)
    num_draws = 4000
    draws = torch.stack([(method.step(step, 0.0, None), layer.module(x))[1] for step in range(num_draws)]).detach()
    error = draws.std(0) / num_draws**0.5
    deviation = (draws.mean(0) - expected) / error.clamp(min=1e-9)
    assert draws.std(0).min() > 0
    assert deviation.abs().max() < 5  # standard errors, over 160 numbers
    assert deviation.square().mean().sqrt() < 1.5


def test_elements_are_dropped_one_by_one_and_ranks_for_all_tokens(make_base, make_method):
    for granularity, shared in (("element", False), ("rank", True)):
        method = make_method("droplora", probability=0.5, granularity=granularity)
        model = method.attach(make_base(), "default")
        module = adapted_layers(model, "default")[0].lora_A.train()
        torch.manual_seed(0)
        dropped = module(torch.ones(50, 8)) == 0
        assert bool((dropped == dropped[0]).all()) == shared
        assert 0 < dropped.float().mean() < 1


def test_masks_of_a_step_are_the_same_everywhere_and_differ_between_steps_and_layers():
    draw = rank_mask(64, PROBABILITY, seed=0, step=3, layer=2)
    assert torch.equal(draw, rank_mask(64, PROBABILITY, seed=0, step=3, layer=2))
    for other in ((0, 3, 1), (0, 4, 2), (1, 3, 2)):
        assert not torch.equal(draw, rank_mask(64, PROBABILITY, *other))
    assert draw.unique().tolist() == [0.0, pytest.approx(1 / (1 - PROBABILITY))]


def test_a_state_of_another_method_is_refused(make_method):
    with pytest.raises(ValueError, match="method 'droplora' keeps num_done, but got nothing"):
        make_method("droplora").load_state_dict({})
