import math

import pytest
import torch

from prunedlora.adapters.shrink import set_factors, shrink
from prunedlora.pruning.pruner import Pruner
from prunedlora.registry import UnknownNameError, names
from tests.pruning.oracles import optimal_change, removal_cost
from tests.pruning.variants import VARIANTS, every_variant, every_variant_of_a_schedule

NUM_STEPS = 20
ONE_SIDED = [(c, s, a) for c in names("curvature") for s in ("A", "B") for a in ("uniform", "global")]


def factors(layers):
    return [(layer.A.detach().clone(), layer.B.detach().clone()) for layer in layers]


def assert_equal(left, right):
    for pair, other in zip(left, right, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(pair, other, strict=True))


@every_variant
def test_counts_are_exact_at_every_event(variant, make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network(targets=("first", "second", "third", "spare"))
    settings = make_settings(**variant)
    pruner, optimizer = Pruner(settings, layers), make_optimizer(model)
    allocation, block = settings.allocation, settings.target(6).block
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


def reference_event(weights, curvatures, num, damping, strength, min_rank, allocation):
    """One event, layer by layer and choice by choice from the joint cost: (new W, removed) per layer."""
    damped = [H + damping * H.trace() / len(H) * torch.eye(len(H), dtype=H.dtype) for H in curvatures]

    def cost(layer, pruned):
        mask = torch.zeros(1, weights[layer].shape[1], dtype=torch.bool)
        mask[0, pruned] = True
        return removal_cost((weights[layer].T @ weights[layer])[None], damped[layer][None], mask).item()

    sequences = []
    for layer, W in enumerate(weights):
        order, costs = [], []
        while len(order) < W.shape[1] - min_rank:
            rest = [j for j in range(W.shape[1]) if j not in order]
            best = min(rest, key=lambda j: cost(layer, [*order, j]))
            costs.append(cost(layer, [*order, best]) - cost(layer, order))
            order.append(best)
        sequences.append((order, costs))
    if allocation == "uniform":
        counts = [num] * len(weights)
    else:
        entries = sorted(
            (max(costs[: position + 1]), layer, position)
            for layer, (_, costs) in enumerate(sequences)
            for position in range(len(costs))
        )
        counts = [sum(entry[1] == layer for entry in entries[:num]) for layer in range(len(weights))]
    results = []
    for layer, W in enumerate(weights):
        chosen = sorted(sequences[layer][0][: counts[layer]])
        mask = torch.zeros(W.shape[1], dtype=torch.bool)
        mask[chosen] = True
        change = optimal_change(W[None], torch.zeros_like(W)[None], damped[layer][None], mask[None])[0]
        results.append(((W + torch.where(mask, 1.0, strength) * change)[:, ~mask], chosen))
    return results


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("curvature", "side", "allocation"), ONE_SIDED)
def test_an_event_is_what_the_formulas_say(curvature, side, allocation, strength, make_network, make_settings, data):
    model, layers = make_network(started=True)
    settings = make_settings(
        curvature=curvature,
        recovery_side=side,
        allocation=allocation,
        recovery_strength=strength,
        schedule="one_shot",
        end=None,
        every_steps=1,
        target_rank=3,
        min_rank=1,
    )
    pruner = Pruner(settings, layers)
    kept = [[0, 2, 3, 5], [1, 2, 3, 4], [0, 1, 4, 5] if allocation == "uniform" else [0, 1, 2, 4, 5]]
    num = 1 if allocation == "uniform" else 4
    for layer, keep in zip(layers, kept, strict=True):  # as after an earlier event; unequal ranks share the batch
        shrink(layer, torch.tensor(keep), None)
    average = f"average.curvature.{side}"
    zeros = {f"{average}.{layer.name}": torch.zeros(layer.rank, layer.rank, dtype=torch.float64) for layer in layers}
    pruner.load_state_dict({"num_observed": torch.tensor(0), **zeros})
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    H = [pruner.state_dict()[f"{average}.{layer.name}"] / (1 - 0.8) for layer in layers]
    weights = [layer.B.detach().clone() if side == "B" else layer.A.detach().T.clone() for layer in layers]
    others = [layer.A.detach().clone() if side == "B" else layer.B.detach().T.clone() for layer in layers]
    expected = reference_event(weights, H, num, 0.01, strength, 1, allocation)
    event = pruner.step(4, 0.2, None)
    for layer, other, (W, chosen) in zip(layers, others, expected, strict=True):
        assert event.removed.get(layer.name, []) == chosen
        kept = [j for j in range(len(other)) if j not in chosen]
        mine, untouched = (layer.B, layer.A) if side == "B" else (layer.A.T, layer.B.T)
        torch.testing.assert_close(mine.detach(), W, rtol=0, atol=1e-10)
        assert torch.equal(untouched, other[kept])


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
                pruner.observe()
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


def test_a_layer_without_gradient_goes_first_and_is_not_recovered(make_network, make_settings, data):
    model, layers = make_network(targets=("first", "second", "third", "spare"), started=True)
    settings = make_settings(allocation="global", schedule="one_shot", end=None, target_rank=5, min_rank=3)
    pruner, spare = Pruner(settings, layers), layers[3]
    A, B = spare.A.detach().clone(), spare.B.detach().clone()
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    event = pruner.step(4, 0.2, None)
    assert event.removed["spare"] == [0, 1, 2]
    assert sum(len(gone) for gone in event.removed.values()) == 4
    assert torch.equal(spare.A, A[3:])
    assert torch.equal(spare.B, B[:, 3:])


def test_layers_may_leave_the_adapter(make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network(targets=("first", "second", "third", "spare"))
    pruner = Pruner(make_settings(allocation="global", target_rank=1), layers)
    optimizer = make_optimizer(model)
    for step in range(1, NUM_STEPS + 1):
        train_step(model, pruner, optimizer, step)
    assert layers[3].rank == 0
    assert sum(layer.rank for layer in layers) == 4


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


def test_layers_of_different_ranks_are_refused(make_network, make_settings):
    _, layers = make_network()
    shrink(layers[0], torch.arange(3), None)
    with pytest.raises(ValueError, match=r"layers must all start at one rank, got ranks \[3, 6\]"):
        Pruner(make_settings(), layers)


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


@pytest.mark.parametrize("basis", ["svd", "whitened"])
def test_a_removal_in_another_basis_leaves_most_of_the_product(basis, make_network, make_settings, data):
    """In basis svd as much as any matrix of that rank can; in whitened less by norm, which is not what it keeps."""
    model, layers = make_network(started=True)
    settings = make_settings(**VARIANTS[f"{basis}-mapped-uniform-one_shot"] | {"target_rank": 4})
    pruner = Pruner(settings, layers)
    before = [(layer.B @ layer.A).detach().clone() for layer in layers]
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    pruner.step(4, 0.2, None)
    for layer, product in zip(layers, before, strict=True):
        assert layer.rank == 4
        error = (layer.B @ layer.A - product).detach()
        best = torch.linalg.svdvals(product)[4:].square().sum().sqrt()
        if basis == "svd":
            torch.testing.assert_close(error.norm(), best, rtol=1e-8, atol=1e-10)
        else:
            assert best < error.norm() < product.norm()


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
    pruner.observe()
    scores = pruner.scores()
    assert {name: values.shape for name, values in scores.items()} == {layer.name: (6,) for layer in layers}
    event = pruner.step(4, 0.2, None)
    assert event.removed == {name: [int(values.argmin())] for name, values in scores.items()}
    with pytest.raises(ValueError, match="no scores: the target is reached"):
        pruner.scores()
