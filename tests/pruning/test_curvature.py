import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import shrink
from prunedlora.registry import lookup, names
from tests.pruning.oracles import quadratic_model

TokenCurvature, BatchCurvature = lookup("curvature", "token"), lookup("curvature", "batch")


def brute_force(model, layers, x, y, side):
    """Sums of per-token outer products from methods.md 1.2, with δ from the base layers' outputs."""
    inputs, outputs = {}, {}
    handles = []
    for layer in layers:

        def keep(_, given, output, name=layer.name):
            inputs[name] = given[0].detach()
            outputs[name] = output.requires_grad_()

        handles.append(layer.module.base_layer.register_forward_hook(keep))
    loss = (model(x) - y).square().sum()
    deltas = torch.autograd.grad(loss, [outputs[layer.name] for layer in layers])
    for handle in handles:
        handle.remove()
    expected = []
    for layer, delta in zip(layers, deltas, strict=True):
        total = torch.zeros(layer.rank, layer.rank, dtype=torch.float64)
        for x_t, d_t in zip(inputs[layer.name].flatten(0, 1), delta.flatten(0, 1), strict=True):
            h, u = layer.A.detach() @ x_t, layer.scaling * layer.B.detach().T @ d_t
            if side == "B":
                total += layer.scaling**2 * (d_t @ d_t) * torch.outer(h, h) / len(d_t)
            else:
                total += (x_t @ x_t) * torch.outer(u, u) / len(x_t)
        expected.append(total)
    return expected


def collected(model, curvature, batches):
    for x, y in batches:
        (model(x) - y).square().sum().backward()
    return curvature.collect()


def assert_all_close(left, right, atol=1e-10):
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("side", ["A", "B"])
def test_token_curvature_is_the_sum_over_tokens(side, make_network, data):
    model, layers = make_network(started=True)
    x, y = data(0)
    expected = brute_force(model, layers, x, y, side)
    curvature = TokenCurvature(layers, side)
    assert_all_close(collected(model, curvature, [(x, y)]), expected)
    assert not any(H.any() for H in curvature.collect())


@pytest.mark.parametrize("side", ["A", "B"])
def test_accumulated_micro_batches_equal_the_whole_batch(side, make_network, data):
    model, layers = make_network(started=True)
    x, y = data(0)
    whole = collected(model, TokenCurvature(layers, side), [(x, y)])
    model, layers = make_network(started=True)
    assert_all_close(collected(model, TokenCurvature(layers, side), [(x[:1], y[:1]), (x[1:], y[1:])]), whole)


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_changes_nothing(side, use_reentrant, make_network, data):
    x, y = data(0)
    model, layers = make_network(started=True)
    plain = collected(model, TokenCurvature(layers, side), [(x, y)])
    model, layers = make_network(started=True)
    curvature = TokenCurvature(layers, side)
    out = checkpoint(model, x.requires_grad_(), use_reentrant=use_reentrant)
    (out - y).square().sum().backward()
    assert_all_close(curvature.collect(), plain)


@pytest.mark.parametrize("side", ["A", "B"])
def test_a_layer_that_runs_twice_counts_twice(side, make_network, data):
    x, y = data(0)
    model, layers = make_network(started=True)
    curvature = TokenCurvature(layers, side)
    ((model(x[:2]) - y[:2]).square().sum() + (model(x[2:]) - y[2:]).square().sum()).backward()
    twice = curvature.collect()
    assert_all_close(collected(model, curvature, [(x, y)]), twice)


def test_evaluation_leaves_no_trace(make_network, data):
    model, layers = make_network(started=True)
    x, y = data(0)
    curvature = TokenCurvature(layers, "B")
    model(x)
    with torch.no_grad():
        (model(x) - y).square().sum()
    assert not any(total.any() for total in curvature.statistics())


@pytest.mark.parametrize("side", ["A", "B"])
def test_sums_are_in_float32_under_autocast(side, data):
    x, y = (tensor.float() for tensor in data(0))
    model = attach(nn.Sequential(nn.Linear(6, 3)), AdapterSettings(4, 4.0, False, 0.0, ["0"], []), "default", 0)
    layers = adapted_layers(model, "default")
    with torch.no_grad():
        layers[0].B.normal_(generator=torch.Generator().manual_seed(0))
    curvature = TokenCurvature(layers, side)
    precise = collected(model, curvature, [(x, y)])[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = (model(x) - y).square().sum()
    loss.backward()
    rounded = curvature.collect()[0]
    assert precise.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, precise, rtol=0, atol=float(precise.abs().max()) * 3e-2)


@pytest.mark.parametrize("side", ["A", "B"])
def test_padding_does_not_count(side):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, num_labels=2
    )
    base = BertForSequenceClassification(config).double().eval()
    model = attach(base, AdapterSettings(3, 3.0, False, 0.0, "all-linear", ["classifier"]), "default", 0).eval()
    layers = adapted_layers(model, "default")
    with torch.no_grad():
        for layer in layers:
            layer.B.normal_(std=0.1)
    ids = torch.randint(1, 30, (2, 5), generator=torch.Generator().manual_seed(0))
    curvature = TokenCurvature(layers, side)
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.square().sum().backward()
    expected = curvature.collect()
    padded = torch.cat([ids, torch.zeros(2, 4, dtype=torch.long)], 1)
    model(input_ids=padded, attention_mask=(padded > 0).long()).logits.square().sum().backward()
    assert_all_close(curvature.collect(), expected)
    assert all(H.any() for H in expected)


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize(("d_in", "d_out"), [(4, 40), (40, 4)])
def test_the_model_costs_what_the_exact_token_fisher_costs(side, d_in, d_out):
    """½ Σ_t <∂L_t/∂W, d>² against ½ tr(d H dᵀ), for gradients without preferred direction over the rows of W."""
    generator = torch.Generator().manual_seed(0)
    num_tokens = 20_000
    x, delta = (torch.randn(num_tokens, n, dtype=torch.float64, generator=generator) for n in (d_in, d_out))
    base = nn.Sequential(nn.Linear(d_in, d_out, bias=False)).double()
    model = attach(base, AdapterSettings(3, 6.0, False, 0.0, ["0"], []), "default", 0)
    (layer,) = adapted_layers(model, "default")
    with torch.no_grad():
        layer.B.normal_(generator=generator)
    curvature = TokenCurvature([layer], side)
    (model(x) * delta).sum().backward()
    H = curvature.collect()[0]
    W = layer.B.detach() if side == "B" else layer.A.detach().T
    d = torch.zeros_like(W)
    d[:, 1] = -W[:, 1]
    if side == "B":
        rise = layer.scaling * ((x @ layer.A.T @ d.T) * delta).sum(1)
    else:
        rise = layer.scaling * ((x @ d @ layer.B.T) * delta).sum(1)
    exact = 0.5 * rise.square().sum()
    modelled = quadratic_model(d, torch.zeros_like(d), H)
    assert modelled.item() == pytest.approx(exact.item(), rel=0.1)


@pytest.mark.parametrize("side", ["A", "B"])
def test_batch_curvature_is_the_gram_matrix_of_the_mean_gradient(side, make_network, data):
    model, layers = make_network(started=True, targets=("first", "third", "spare"))
    x, y = data(0)
    curvature = BatchCurvature(layers, side)
    H = collected(model, curvature, [(x, y)])
    assert curvature.statistics() == []
    for layer, of_layer in zip(layers[:2], H, strict=False):
        G = layer.B.grad if side == "B" else layer.A.grad.T
        torch.testing.assert_close(of_layer, G.T @ G / len(G), rtol=0, atol=1e-12)
    assert layers[2].B.grad is None
    assert torch.equal(H[2], torch.zeros(6, 6, dtype=torch.float64))


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("name", names("curvature"))
class TestConformance:
    """What every registered curvature promises."""

    def test_it_is_symmetric_positive_and_of_the_layers_ranks(self, name, side, make_network, data):
        model, layers = make_network(started=True)
        for layer, H in zip(layers, collected(model, lookup("curvature", name)(layers, side), [data(0)]), strict=True):
            assert H.shape == (layer.rank, layer.rank)
            torch.testing.assert_close(H, H.T, rtol=1e-12, atol=1e-12)
            assert torch.linalg.eigvalsh(H).min() > -1e-10 * H.trace()

    def test_sums_of_workers_make_the_whole(self, name, side, make_network, data):
        x, y = data(0)
        model, layers = make_network(started=True)
        whole = collected(model, lookup("curvature", name)(layers, side), [(x, y)])
        workers = []
        for half in (slice(0, 2), slice(2, 4)):
            model, layers = make_network(started=True)
            workers.append((layers, lookup("curvature", name)(layers, side)))
            (model(x[half]) - y[half]).square().sum().backward()
        (layers, first), (others, second) = workers
        for mine, theirs in zip(first.statistics(), second.statistics(), strict=True):
            mine += theirs
        for mine, theirs in zip(layers, others, strict=True):
            mine.A.grad += theirs.A.grad
            mine.B.grad += theirs.B.grad
        assert_all_close(first.collect(), whole, atol=1e-9)

    def test_close_removes_the_hooks(self, name, side, make_network):
        _, layers = make_network()
        curvature = lookup("curvature", name)(layers, side)
        curvature.close()
        curvature.close()
        assert not any(module._forward_hooks for layer in layers for module in layer.module.modules())


def test_sums_of_layers_of_several_types_are_their_own(make_network):
    """Parts of one tensor per type: of the layer's size and type, and what one gets no other has."""
    _, layers = make_network()
    layers[1].B.data = layers[1].B.data.float()
    shrink(layers[2], torch.tensor([0, 3]), None)
    curvature = lookup("curvature", "token")(layers, "B")
    sums = curvature.statistics()
    assert [total.dtype for total in sums] == [torch.float64, torch.float32, torch.float64]
    assert [total.shape[0] for total in sums] == [6, 6, 2]
    for value, total in enumerate(sums, 1):
        total.fill_(value)
    assert [total.unique().tolist() for total in sums] == [[1.0], [2.0], [3.0]]
    curvature.collect()
    assert not any(total.any() for total in curvature.statistics())
    curvature.close()
