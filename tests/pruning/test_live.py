"""Components that are held at zero, for trainers under which shapes must not change."""

import pytest
import torch

from prunedlora.pruning.pruner import Pruner
from tests.pruning.factors import factors
from tests.pruning.variants import NUM_STEPS, every_variant_of_a_schedule


@every_variant_of_a_schedule
def test_holding_at_zero_removes_what_shrinking_removes(
    variant, make_network, make_settings, make_optimizer, train_step
):
    """For trainers under which shapes must not change: the same choices at every event, the same adapter at the end.
    Momentum and weight decay would move what is held."""
    settings = make_settings(**variant)
    results = []
    for hold in (False, True):
        model, layers = make_network()
        pruner, optimizer = Pruner(settings, layers, hold=hold), make_optimizer(model)
        events = []
        for step in range(1, NUM_STEPS + 1):
            events.append(train_step(model, pruner, optimizer, step))
            if hold:
                assert {layer.rank for layer in layers} == {6}
        pruner.shrink(optimizer)
        results.append((events, factors(layers)))
    assert results[0][0] == results[1][0]
    for pair, other in zip(results[0][1], results[1][1], strict=True):
        for a, b in zip(pair, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


def test_held_components_are_resumed(make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network()
    pruner, optimizer = Pruner(make_settings(), layers, hold=True), make_optimizer(model)
    for step in range(1, 9):
        train_step(model, pruner, optimizer, step)
    state = pruner.state_dict()
    assert {name for name in state if name.startswith("live.")} == {f"live.{layer.name}" for layer in layers}
    resumed = Pruner(make_settings(), layers, hold=True)
    pruner.close()
    resumed.load_state_dict(state)
    resumed.shrink(None)
    assert [layer.rank for layer in layers] == [len(state[f"live.{layer.name}"]) for layer in layers] != [6, 6, 6]
    with pytest.raises(ValueError, match="missing or unexpected: live"):
        Pruner(make_settings(), make_network()[1]).load_state_dict(state)
