"""When the pruner removes, how much, and that nothing else of a training shows in it."""

import math

import pytest
import torch

from prunedlora.adapters.shrink import set_factors
from prunedlora.pruning.pruner import Pruner
from prunedlora.registry import UnknownNameError
from tests.pruning.factors import assert_equal, factors
from tests.pruning.variants import NUM_STEPS, every_variant, every_variant_of_a_schedule


@every_variant
def test_counts_are_exact_at_every_event(variant, make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network(targets=("first", "second", "third", "spare"))
    settings = make_settings(**variant)
    pruner, optimizer = Pruner(settings, layers), make_optimizer(model)
    allocation, block = settings.allocation, settings.block
    per_layer = 6 - settings.target_rank
    total, unit = (per_layer, 1) if allocation == "uniform" else (4 * per_layer, 4)
    ranks = {layer.name: 6 for layer in layers}
    for step in range(1, NUM_STEPS + 1):
        event = train_step(model, pruner, optimizer, step)
        now = {layer.name: layer.rank for layer in layers}
        if event is not None:
            assert (event.step, event.step % 2) == (step, 0)
            assert event.ranks == now
            for name, rank in ranks.items():
                gone = event.removed.get(name, [])
                assert all(0 <= j < rank for j in gone)
                assert len(set(gone)) == len(gone) == rank - now[name]
        assert all(now[name] <= rank for name, rank in ranks.items())
        ranks = now
        u = min(max((step // 2 * 2 / NUM_STEPS - 0.2) / (0.8 - 0.2), 0.0), 1.0)
        share = {
            "linear": u,
            "cubic": 1 - (1 - u) ** 3,
            "cosine": (1 - math.cos(math.pi * u)) / 2,
            "one_shot": float(step >= 4),
        }[settings.schedule]
        if allocation == "global_per_parameter":
            widths = {layer.name: sum(layer.A.shape[1:] + layer.B.shape[:1]) for layer in layers}
            freed = sum(widths[name] * (6 - rank) for name, rank in ranks.items())
            due = math.floor(share * sum(widths.values()) * per_layer + 0.5)
            assert due <= freed < due + block * max(widths.values())
        else:
            removed = 6 * 4 - sum(ranks.values())
            assert removed == math.floor(share * total + 0.5) // block * block * 4 // unit
    if allocation != "global_per_parameter":
        assert removed == 4 * per_layer
    if allocation == "uniform":
        assert set(ranks.values()) == {settings.target_rank}
    for layer in layers:
        assert layer.A.shape[0] == layer.B.shape[1] == layer.rank
        assert all(optimizer.state[p]["exp_avg"].shape == p.shape for p in (layer.A, layer.B) if p in optimizer.state)


@every_variant_of_a_schedule
def test_resuming_across_an_event_equals_going_on_bit_for_bit(
    variant, make_network, make_settings, make_optimizer, train_step
):
    settings = make_settings(**variant)
    model, layers = make_network()
    pruner, optimizer = Pruner(settings, layers), make_optimizer(model)
    checkpoints = {}
    for step in range(1, NUM_STEPS + 1):
        train_step(model, pruner, optimizer, step)
        if step in (3, 7, 8, 18):
            moments = {
                i: {k: v.clone() for k, v in state.items()} for i, state in optimizer.state_dict()["state"].items()
            }
            state = {name: tensor.clone() for name, tensor in pruner.state_dict().items()}
            checkpoints[step] = factors(layers), moments, state
    for done, (values, moments, state) in checkpoints.items():
        other, others = make_network()
        resumed, its_optimizer = Pruner(settings, others), make_optimizer(other)
        for layer, (A, B) in zip(others, values, strict=True):
            set_factors(layer, A, B, its_optimizer)
        its_optimizer.load_state_dict({**its_optimizer.state_dict(), "state": moments})
        resumed.load_state_dict(state)
        for step in range(done + 1, NUM_STEPS + 1):
            train_step(other, resumed, its_optimizer, step)
        assert_equal(factors(others), factors(layers))
        assert {layer.rank for layer in others} != {6}


@every_variant_of_a_schedule
def test_scaled_losses_leave_no_trace_nor_do_steps_that_begin_anew(
    variant, make_network, make_settings, make_optimizer, data
):
    """Bit for bit in float32: a power of two is exact. Every other step overflows first, and steps with events too."""
    states, factors_of = [], []
    for scale in (1.0, 2.0**10):
        model, layers = make_network(targets=("first", "second", "third", "spare"))
        optimizer = make_optimizer(model.float())
        pruner = Pruner(make_settings(**variant), layers)
        for step in range(1, NUM_STEPS + 1):
            x, y = (tensor.float() for tensor in data(step))
            if scale != 1.0 and step % 4 in (0, 1):
                ((model(x) - y).square().sum() * 2.0**130).backward()
                optimizer.zero_grad()
                pruner.discard()
            ((model(x) - y).square().sum() * scale).backward()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= y.numel() * scale
            pruner.unscale(scale)
            pruner.observe(y.numel())
            optimizer.step()
            pruner.step(step, step / NUM_STEPS, optimizer)
            optimizer.zero_grad()
            if step == 9:  # some are gone, others are still to go
                states.append({name: tensor.clone() for name, tensor in pruner.state_dict().items()})
        factors_of.append(factors(layers))
        assert {layer.rank for layer in layers} != {6}
    assert_equal(*factors_of)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@every_variant_of_a_schedule
def test_two_workers_with_half_the_batch_remove_what_one_removes(
    variant, make_network, make_settings, make_optimizer, data
):
    settings = make_settings(**variant)

    def run(shards):
        workers = []
        for _ in shards:
            model, layers = make_network()
            workers.append((model, layers, Pruner(settings, layers), make_optimizer(model)))
        removed = []
        for step in range(1, NUM_STEPS + 1):
            x, y = data(step)
            for shard, (model, *_) in zip(shards, workers, strict=True):
                (model(x[shard]) - y[shard]).square().sum().backward()
            sums = [
                [*pruner.statistics(), *[p.grad for layer in layers for p in (layer.A, layer.B)]]
                for _, layers, pruner, _ in workers
            ]
            for tensors in zip(*sums, strict=True):
                total = torch.stack(tensors).sum(0)
                for tensor in tensors:
                    tensor.copy_(total)
            events = []
            for _, layers, pruner, optimizer in workers:
                for layer in layers:
                    layer.A.grad /= y.numel()
                    layer.B.grad /= y.numel()
                pruner.observe(y.numel())
                optimizer.step()
                optimizer.zero_grad()
                events.append(pruner.step(step, step / NUM_STEPS, optimizer))
            assert all(event == events[0] for event in events)
            removed.append(events[0] and events[0].removed)
        return removed, factors(workers[0][1]), factors(workers[-1][1])

    one, whole, _ = run([slice(0, 4)])
    two, first, last = run([slice(0, 2), slice(2, 4)])
    assert one == two
    assert any(one)
    assert_equal(first, last)
    for pair, other in zip(first, whole, strict=True):
        for a, b in zip(pair, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("overrides", [{"target_rank": 6}, {"target_rank": None, "target_sparsity": 0.0}])
def test_sparsity_0_touches_nothing(overrides, make_network, make_settings, make_optimizer, train_step, data):
    model, layers = make_network()
    pruner, optimizer = Pruner(make_settings(**overrides), layers), make_optimizer(model)
    assert not any(module._forward_hooks for module in model.modules())
    assert pruner.statistics() == []
    plain, plain_layers = make_network()
    plain_optimizer = make_optimizer(plain)
    for step in range(1, NUM_STEPS + 1):
        assert train_step(model, pruner, optimizer, step) is None
        x, y = data(step)
        (plain(x) - y).square().sum().backward()
        for layer in plain_layers:
            layer.A.grad /= y.numel()
            layer.B.grad /= y.numel()
        plain_optimizer.step()
        plain_optimizer.zero_grad()
    assert_equal(factors(layers), factors(plain_layers))


def test_no_event_while_every_B_is_zero(make_network, make_settings, data):
    model, layers = make_network()
    pruner = Pruner(make_settings(), layers)
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    assert pruner.step(10, 0.5, None) is None
    with torch.no_grad():
        layers[1].B[0, 0] = 1.0
    event = pruner.step(10, 0.5, None)
    assert set(event.ranks.values()) == {3}


def test_no_event_before_the_first_observation(make_network, make_settings):
    _, layers = make_network(started=True)
    assert Pruner(make_settings(), layers).step(10, 0.5, None) is None


def test_the_last_step_completes_the_target_whatever_every_steps_is(
    make_network, make_settings, make_optimizer, train_step
):
    model, layers = make_network()
    pruner, optimizer = Pruner(make_settings(schedule="linear", every_steps=7, end=1.0), layers), make_optimizer(model)
    steps = [step for step in range(1, NUM_STEPS + 1) if train_step(model, pruner, optimizer, step)]
    assert steps == [7, 14, 20]
    assert {layer.rank for layer in layers} == {2}


def test_once_the_target_is_reached_nothing_is_collected(make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network()
    pruner, optimizer = Pruner(make_settings(), layers), make_optimizer(model)
    for step in range(1, 13):
        assert pruner.statistics()
        event = train_step(model, pruner, optimizer, step)
    assert set(event.ranks.values()) == {2}
    assert pruner.statistics() == []
    assert pruner.state_dict().keys() == {"num_observed"}
    assert not any(module._forward_hooks for module in model.modules())


def test_layers_may_leave_the_adapter(make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network(targets=("first", "second", "third", "spare"))
    pruner = Pruner(make_settings(allocation="global", target_rank=1), layers)
    optimizer = make_optimizer(model)
    for step in range(1, NUM_STEPS + 1):
        train_step(model, pruner, optimizer, step)
    assert layers[3].rank == 0
    assert sum(layer.rank for layer in layers) == 4


def test_recovery_keeps_the_loss_where_plain_removal_raises_it(
    make_network, make_settings, make_optimizer, train_step, data
):
    """What recovery is for, on a trained adapter: one event in the middle, loss right after it."""
    losses = {}
    for strength in (0.0, 1.0):
        model, layers = make_network()
        settings = make_settings(schedule="one_shot", begin=1.0, end=None, recovery_strength=strength, target_rank=3)
        pruner, optimizer = Pruner(settings, layers), make_optimizer(model)
        for step in range(1, NUM_STEPS + 1):
            train_step(model, pruner, optimizer, step)
        assert {layer.rank for layer in layers} == {3}
        with torch.no_grad():
            losses[strength] = sum((model(x) - y).square().mean().item() for x, y in map(data, range(5)))
    assert losses[1.0] < losses[0.0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"every_steps": 0}, "every_steps must be at least 1, got 0"),
        ({"target_rank": 1, "min_rank": 2}, "target_rank 1 of initial rank 6 removes 5 of 6 components"),
        ({"end": None}, "schedule 'cubic' needs end"),
        ({"begin": 0.9}, "begin 0.9 must lie before end 0.8"),
    ],
)
def test_settings_that_cannot_be_are_refused(overrides, message, make_network, make_settings):
    with pytest.raises(ValueError, match=message):
        Pruner(make_settings(**overrides), make_network()[1])


@pytest.mark.parametrize("kind", ["criterion", "curvature", "allocation", "schedule"])
def test_unknown_names_are_refused(kind, make_network, make_settings):
    with pytest.raises(UnknownNameError, match=f"unknown {kind} 'nonsense'; known: "):
        Pruner(make_settings(**{kind: "nonsense"}), make_network()[1])


@pytest.mark.parametrize("gradient_cap", [None, 0.5])
def test_scores_are_what_an_event_looks_at_first(gradient_cap, make_network, make_settings, data):
    """Optimal Brain Surgeon: the lowest score is the first to go."""
    model, layers = make_network(started=True)
    settings = make_settings(schedule="one_shot", end=None, target_rank=5, gradient_cap=gradient_cap)
    pruner = Pruner(settings, layers)
    with pytest.raises(ValueError, match="no scores: basis 'raw', 0 steps observed"):
        pruner.scores()
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe(1.0)
    scores = pruner.scores()
    assert {name: values.shape for name, values in scores.items()} == {layer.name: (6,) for layer in layers}
    event = pruner.step(4, 0.2, None)
    assert event.removed == {name: [int(values.argmin())] for name, values in scores.items()}
    with pytest.raises(ValueError, match="no scores: the target is reached"):
        pruner.scores()
