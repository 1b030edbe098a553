"""What is averaged over steps, and how it is resumed."""

import pytest
import torch

from prunedlora.pruning.pruner import Pruner
from tests.pruning.factors import factors


def test_the_average_is_corrected_for_its_start(make_network, make_settings, data):
    """A constant curvature averages to itself after any number of steps: the events are the same."""
    results = []
    for repeats in (1, 5):
        model, layers = make_network(started=True)
        pruner = Pruner(make_settings(schedule="one_shot", end=None), layers)
        x, y = data(0)
        for _ in range(repeats):
            (model(x) - y).square().sum().backward()
            pruner.observe()
        results.append((pruner.step(4, 0.2, None).removed, factors(layers)))
    assert results[0][0] == results[1][0]
    for pair, other in zip(results[0][1], results[1][1], strict=True):
        for a, b in zip(pair, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_state_of_another_adapter_is_refused(make_network, make_settings):
    _, layers = make_network()
    pruner = Pruner(make_settings(), layers)
    state = pruner.state_dict()
    with pytest.raises(
        ValueError, match=r"does not fit the adapter; missing or unexpected: average\.curvature\.B\.first"
    ):
        pruner.load_state_dict({name: H for name, H in state.items() if name != "average.curvature.B.first"})
    with pytest.raises(
        ValueError, match=r"'average\.curvature\.B\.first' has shape \(2, 2\), but the layer has rank 6"
    ):
        pruner.load_state_dict(state | {"average.curvature.B.first": torch.zeros(2, 2)})
