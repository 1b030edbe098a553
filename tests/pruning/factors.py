"""What tests compare: the factors of all layers."""

import torch


def factors(layers):
    return [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]


def assert_equal(left, right):
    for pair, other in zip(left, right, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(pair, other, strict=True))
