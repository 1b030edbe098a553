"""The laws of a pruner on a ladder: budgets in the end, resuming, one rung as a schedule, workers, held components."""

from dataclasses import replace

import pytest
import torch

from prunedlora.adapters.shrink import shrink
from prunedlora.pruning.observed_steps import first_event, first_observed
from prunedlora.pruning.pruner import Pruner
from tests.pairwise import parametrize_pairwise
from tests.pruning.factors import assert_equal, factors
from tests.pruning.ladders import BRANCHES, EVENTS, LADDERS, NO_SCHEDULE, ONE_SHOT, go, on_ladder, restore
from tests.pruning.variants import NUM_STEPS

FORMS = {
    "gradient": {},
    "cap": {"gradient_cap": 0.5, "ema_decay": 0.2},
    "gaps": {"gradient_cap": 0.5, "ema_decay": 0.03},  # two steps count: some of each rung's four are not observed
    "taylor": {"criterion": "taylor", "curvature": None, "recovery_side": None, "recovery_strength": 0.0},
    "magnitude": {
        "criterion": "magnitude",
        "curvature": None,
        "recovery_side": None,
        "recovery_strength": 0.0,
        "ema_decay": None,
        "damping": None,
    },
    "svd": {
        "basis": "svd",
        "criterion": None,
        "curvature": None,
        "recovery_side": None,
        "recovery_strength": None,
        "ema_decay": None,
        "damping": None,
        "moments": "mapped",
    },
    "whitened": {
        "basis": "whitened",
        "criterion": None,
        "curvature": None,
        "recovery_side": None,
        "recovery_strength": None,
        "moments": "mapped",
        "ema_decay": 0.2,
    },
}
ALLOCATIONS = ("uniform", "global", "global_per_parameter")


@parametrize_pairwise(
    form=("cap", "gaps", "magnitude", "svd", "whitened"),
    ladder=tuple(LADDERS),
    allocation=ALLOCATIONS,
    hold=(False, True),
)
def test_resuming_at_any_step_and_on_borders_equals_going_on_bit_for_bit(
    form, ladder, allocation, hold, make_network, make_settings, make_optimizer, train_step
):
    settings = on_ladder(make_settings(**FORMS[form], allocation=allocation, rate_growth=0.5), LADDERS[ladder])
    model, layers = make_network()
    pruner, optimizer = Pruner(settings, layers, hold=hold, num_steps=NUM_STEPS), make_optimizer(model)
    checkpoints = {}
    events = go(train_step, model, layers, pruner, optimizer, keep=checkpoints)
    assert pruner.is_done
    assert sum(pruner.ranks.values()) <= 3 or allocation == "global_per_parameter"
    for at, saved in checkpoints.items():
        done, is_begun = (at, False) if isinstance(at, int) else (at[0], True)
        if ladder == "branches" and any(rung.end == done for rung in pruner.rungs) and not is_begun:
            continue  # of the branch, which is begun again
        other, others = make_network()
        resumed = Pruner(settings, others, hold=hold, num_steps=NUM_STEPS)
        its_optimizer = make_optimizer(other)
        restore(saved, others, its_optimizer, resumed)
        later = go(train_step, other, others, resumed, its_optimizer, first=done + 1)
        is_due = ladder != "events" and not is_begun
        assert later == [event for event in events if event.step > done or (event.step == done and is_due)]
        assert_equal(factors(others), factors(layers))
        assert resumed.rate_factor == pruner.rate_factor
        assert resumed.state_dict().keys() == pruner.state_dict().keys()


@parametrize_pairwise(
    form=("gradient", "cap", "svd", "whitened"),
    removal=("linear", "cubic", "cosine"),
    allocation=ALLOCATIONS,
    span=((0.2, 0.8), (0.25, 0.9), (0.3, 1.0)),
)
def test_one_rung_with_its_events_over_a_schedules_span_is_that_schedule_bit_for_bit(
    form, removal, allocation, span, make_network, make_settings, make_optimizer, train_step
):
    begin, end = span
    schedule = make_settings(**FORMS[form], allocation=allocation, schedule=removal, begin=begin, end=end)
    removal_end = (end - begin) / (1 - begin)
    ladder = replace(EVENTS, sizes=(2,), trunk=begin, removal=removal, removal_end=removal_end)
    results = []
    for settings in (schedule, on_ladder(schedule, ladder)):
        model, layers = make_network()
        pruner, optimizer = Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)
        events = [train_step(model, pruner, optimizer, step) for step in range(1, NUM_STEPS + 1)]
        assert pruner.is_done
        moments = [optimizer.state[p] for layer in layers for p in (layer.A, layer.B)]
        results.append((events, factors(layers), moments))
    assert results[0][0] == results[1][0]
    assert any(results[0][0])
    assert_equal(results[0][1], results[1][1])
    for moments, others in zip(results[0][2], results[1][2], strict=True):
        assert all(torch.equal(moments[name], others[name]) for name in ("exp_avg", "exp_avg_sq", "step"))


@parametrize_pairwise(form=tuple(FORMS), ladder=("one_shot", "events"), allocation=ALLOCATIONS)
def test_held_components_are_chosen_as_physical_ones_are(
    form, ladder, allocation, make_network, make_settings, make_optimizer, train_step
):
    settings = on_ladder(make_settings(**FORMS[form], allocation=allocation), LADDERS[ladder])
    found = []
    for hold in (False, True):
        model, layers = make_network()
        pruner, optimizer = Pruner(settings, layers, hold=hold, num_steps=NUM_STEPS), make_optimizer(model)
        events = go(train_step, model, layers, pruner, optimizer)
        pruner.shrink(optimizer)
        found.append((events, factors(layers)))
    assert found[0][0] == found[1][0]
    for pair, other in zip(found[0][1], found[1][1], strict=True):
        for a, b in zip(pair, other, strict=True):
            # Basis svd is found from squares of the factors, whose rounding its small components feel.
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9 if form == "svd" else 1e-10)


@parametrize_pairwise(form=tuple(FORMS), ladder=("one_shot", "events"), allocation=ALLOCATIONS)
def test_two_workers_with_half_the_batch_go_down_as_one_does(
    form, ladder, allocation, make_network, make_settings, make_optimizer, data
):
    settings = on_ladder(make_settings(**FORMS[form], allocation=allocation), LADDERS[ladder])

    def run(shards):
        workers = []
        for _ in shards:
            model, layers = make_network()
            workers.append((model, layers, Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)))
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
                    for p in (layer.A, layer.B):
                        p.grad = p.grad / y.numel() if p.grad is not None else None
                pruner.observe(y.numel())
                optimizer.step()
                optimizer.zero_grad()
                events.append((pruner.step(step, step / NUM_STEPS, optimizer), pruner.begin_rung(step, optimizer)))
            assert all(event == events[0] for event in events)
            removed.append([event.removed for event in events[0] if event])
        return removed, factors(workers[0][1]), factors(workers[-1][1])

    one, whole, _ = run([slice(0, 4)])
    two, first, last = run([slice(0, 2), slice(2, 4)])
    assert one == two
    assert any(one)
    assert_equal(first, last)
    for pair, other in zip(first, whole, strict=True):
        for a, b in zip(pair, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("hold", [False, True])
def test_removed_components_never_return_and_nothing_is_observed_at_the_end(
    hold, make_network, make_settings, make_optimizer, train_step
):
    model, layers = make_network()
    settings = on_ladder(make_settings(), ONE_SHOT)
    pruner, optimizer = Pruner(settings, layers, hold=hold, num_steps=NUM_STEPS), make_optimizer(model)
    live = {name: list(range(6)) for name in pruner.ranks}
    for step in range(1, NUM_STEPS + 1):
        assert train_step(model, pruner, optimizer, step) is None
        assert bool(pruner.statistics()) == (step <= 16) == (not pruner.is_done)
        if event := pruner.begin_rung(step, optimizer):
            assert step in (8, 12, 16)
            for name, gone in event.removed.items():
                live[name] = [j for place, j in enumerate(live[name]) if place not in gone]
        assert {name: len(there) for name, there in live.items()} == pruner.ranks
        if hold:
            for layer in layers:
                gone = [j for j in range(6) if j not in live[layer.name]]
                assert not layer.A[gone].any()
                assert not layer.B[:, gone].any()
        else:
            assert {layer.name: layer.A.shape[0] for layer in layers} == pruner.ranks
    assert pruner.is_done
    assert pruner.statistics() == []
    assert pruner.done_share == 1.0
    assert not any(module._forward_hooks for module in model.modules())


def test_events_of_rungs_fall_where_the_ladder_says_and_the_share_done_rises(
    make_network, make_settings, make_optimizer, train_step
):
    model, layers = make_network()
    pruner = Pruner(on_ladder(make_settings(rate_growth=1.0), EVENTS), layers, num_steps=NUM_STEPS)
    optimizer, shares = make_optimizer(model), []
    for step in range(1, NUM_STEPS + 1):
        event = train_step(model, pruner, optimizer, step)
        assert pruner.begin_rung(step, optimizer) is None
        if event is not None:
            assert pruner.may_remove(step, step / NUM_STEPS)
            shares.append((step, pruner.done_share, pruner.rate_factor))
    assert shares == [(10, 1 / 5, 6 / 5), (11, 2 / 5, 6 / 4), (14, 3 / 5, 6 / 3), (15, 4 / 5, 6 / 2), (18, 1.0, 6.0)]
    may = [step for step in range(1, NUM_STEPS + 1) if pruner.may_remove(step, step / NUM_STEPS)]
    assert may == [10, 11, 12, 14, 15, 16, 18, 19, 20]


@pytest.mark.parametrize(
    ("ladder", "event", "observed"),
    [(ONE_SHOT, 8, 4), (EVENTS, 10, 6), (BRANCHES, 8, 2), (replace(EVENTS, every_steps=3), 9, 5)],
)
def test_observation_begins_as_many_steps_of_the_line_before_the_first_event_as_count(
    ladder, event, observed, make_network, make_settings, make_optimizer, train_step
):
    settings = on_ladder(make_settings(ema_decay=0.2), ladder)
    assert first_event(settings, NUM_STEPS, 2, 1) == event
    assert first_observed(settings, NUM_STEPS, 2, 1) == observed
    model, layers = make_network()
    pruner, optimizer = Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)
    for step in range(1, event):
        assert bool(pruner.statistics()) == (step >= observed)
        train_step(model, pruner, optimizer, step)


def test_moments_are_dropped_where_there_are_none_to_map(make_network, make_settings, make_optimizer, train_step):
    model, layers = make_network()
    settings = on_ladder(make_settings(**FORMS["svd"] | {"moments": None}), replace(ONE_SHOT, optimizer_state="new"))
    pruner, optimizer = Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)
    for step in range(1, 9):
        train_step(model, pruner, optimizer, step)
    pruner.begin_rung(8, optimizer)
    assert not any(p in optimizer.state for layer in layers for p in (layer.A, layer.B))


def test_a_rung_that_no_observed_step_precedes_is_refused(make_network, make_settings):
    _, layers = make_network(started=True)
    pruner = Pruner(on_ladder(make_settings(), ONE_SHOT), layers, num_steps=NUM_STEPS)
    with pytest.raises(ValueError, match="the rung that begins after step 8 has no step before it that was observed"):
        pruner.begin_rung(8, None)


@pytest.mark.parametrize(
    ("overrides", "num_steps", "message"),
    [
        ({}, None, "a ladder needs num_steps, the length of the training"),
        ({}, 3, "rung 2 of the ladder lacks a step in a training of 3 steps"),
        ({"begin": 0.1}, 20, "begin has no effect on a ladder; remove it"),
        (
            {"target_rank": 2},
            20,
            "give exactly one of target_sparsity .None. and target_rank .2. beside a ladder: none",
        ),
    ],
)
def test_ladders_that_cannot_be_are_refused(overrides, num_steps, message, make_network, make_settings):
    settings = replace(make_settings(), ladder=ONE_SHOT, **NO_SCHEDULE | overrides)
    with pytest.raises(ValueError, match=message):
        Pruner(settings, make_network()[1], num_steps=num_steps)


def test_one_rung_at_once_is_the_one_shot_schedule_bit_for_bit(make_network, make_settings, make_optimizer, train_step):
    schedule = make_settings(schedule="one_shot", begin=0.4, end=None, gradient_cap=0.5)
    results = []
    for settings in (schedule, on_ladder(schedule, replace(ONE_SHOT, sizes=(2,)))):
        model, layers = make_network()
        pruner, optimizer = Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)
        events = [
            event
            for step in range(1, NUM_STEPS + 1)
            for event in (train_step(model, pruner, optimizer, step), pruner.begin_rung(step, optimizer))
            if event
        ]
        results.append((events, factors(layers)))
    assert [event.step for event in results[0][0]] == [8]
    assert results[0][0] == results[1][0]
    assert_equal(results[0][1], results[1][1])


@parametrize_pairwise(
    form=("gradient", "magnitude", "svd", "whitened"),
    ladder=tuple(LADDERS),
    allocation=ALLOCATIONS,
    sizes=(("parameters", (150, 100, 49)), ("mean_rank", (3, 2, 1)), ("kept", (0.7, 0.5, 0.26))),
    round_to=(None, "served_slot"),
    ranks=((6, 6, 6), (6, 2, 4)),
)
def test_every_candidate_keeps_to_its_budget_by_less_than_a_component(
    form, ladder, allocation, sizes, round_to, ranks, make_network, make_settings, make_optimizer, train_step
):
    unit, budgets = sizes
    budgets = budgets[2:] if round_to and allocation == "uniform" else budgets
    model, layers = make_network()
    for layer, rank in zip(layers, ranks, strict=True):
        shrink(layer, torch.arange(rank), None)
    widths = [layer.A.shape[1] + layer.B.shape[0] for layer in layers]
    settings = on_ladder(
        make_settings(**FORMS[form], allocation=allocation),
        replace(LADDERS[ladder], unit=unit, sizes=budgets),
        round_to=round_to,
    )
    pruner, optimizer = Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)
    checkpoints = {}
    go(train_step, model, layers, pruner, optimizer, keep=checkpoints)
    weights = widths if unit == "parameters" or allocation == "global_per_parameter" else [1, 1, 1]
    for size, rung in zip(budgets, pruner.rungs[1:], strict=True):
        found = [A.shape[0] for A, _ in checkpoints[rung.branch][0]]
        of = {
            "parameters": 1,
            "mean_rank": sum(weights),
            "kept": sum(w * rank for w, rank in zip(weights, ranks, strict=True)),
        }[unit]
        left = sum(w * rank for w, rank in zip(weights, found, strict=True))
        if allocation == "uniform" and unit == "mean_rank":
            assert found == [min(rank, size) for rank in ranks]
            continue
        assert 0 < left <= size * of
        if round_to is None and allocation == "uniform":
            more = [min(rank, max(found) + 1) for rank in ranks]
            assert sum(w * rank for w, rank in zip(weights, more, strict=True)) > size * of
        elif round_to is None:
            assert left > size * of - 1 - max(weights)
        elif allocation != "uniform":
            assert max(found) <= (1 if size * of <= sum(weights) else 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"removal": "linear", "removal_end": 0.5}, "removal 'linear' of a ladder needs every_steps, got None"),
        ({"every_steps": 3}, "removal 'one_shot' of a ladder has no use for every_steps, got 3"),
        ({"removal_end": 0.5}, "end 0.5 has no effect on schedule 'one_shot'"),
    ],
)
def test_removals_that_do_not_fit_are_refused(changes, message, make_network, make_settings):
    settings = on_ladder(make_settings(), replace(ONE_SHOT, **changes))
    with pytest.raises(ValueError, match=message):
        Pruner(settings, make_network()[1], num_steps=NUM_STEPS)


def test_observation_that_begins_right_after_a_branch_sees_the_lines_first_step(
    make_network, make_settings, make_optimizer, train_step
):
    """The branch ends with step 8 and is thrown away; step 9 is the first that counts at the event after it."""
    ladder = replace(BRANCHES, removal="linear", removal_end=1.0, every_steps=1)
    model, layers = make_network()
    pruner = Pruner(on_ladder(make_settings(ema_decay=1e-4), ladder), layers, num_steps=NUM_STEPS)
    events = go(train_step, model, layers, pruner, make_optimizer(model))
    assert events[0].step == 9
    assert pruner.is_done


@pytest.mark.parametrize(
    ("ladder", "observed"),
    [
        (ONE_SHOT, {7, 8, 11, 12, 15, 16}),
        (replace(EVENTS, removal_end=0.25, every_steps=1), {8, 9, 12, 13, 16, 17}),
        (EVENTS, {9, 10, 11, 13, 14, 15, 17, 18}),  # each rung's last event is on its third step
        (replace(ONE_SHOT, sizes=(4, 2), trunk=0.5, rate="branch", branch=0.2), {7, 8, 9, 10, 13, 14, 15}),
    ],
)
@pytest.mark.parametrize("hold", [False, True])
def test_each_rung_observes_the_steps_that_count_at_its_removals_and_no_others(
    ladder, observed, hold, make_network, make_settings, make_optimizer, train_step
):
    """Two count, of the line: branches are observed with what comes before them, and put back."""
    settings = on_ladder(make_settings(ema_decay=0.03, gradient_cap=0.5), ladder)
    model, layers = make_network()
    pruner, optimizer = Pruner(settings, layers, hold=hold, num_steps=NUM_STEPS), make_optimizer(model)
    seen = set()

    def noted(model, pruner, optimizer, step):
        is_watching = any(name.startswith("average.") for name in pruner.state_dict())
        assert is_watching == bool(pruner.statistics()) == any(module._forward_hooks for module in model.modules())
        seen.update({step} if is_watching else ())
        return train_step(model, pruner, optimizer, step)

    go(noted, model, layers, pruner, optimizer)
    assert pruner.is_done
    assert seen == observed


def test_averages_of_a_rung_are_of_its_own_steps(make_network, make_settings, make_optimizer, train_step):
    """Those and the scale begin at zero again, as if nothing had been observed before."""
    settings = on_ladder(make_settings(ema_decay=0.03, gradient_cap=0.5), ONE_SHOT)
    model, layers = make_network()
    pruner, optimizer = Pruner(settings, layers, num_steps=NUM_STEPS), make_optimizer(model)
    go(train_step, model, layers, pruner, optimizer, last=10)
    empty = pruner.state_dict()
    assert empty["num_observed"] == 0
    assert empty["gradient_scale"] == 0.0
    assert not any(tensor.any() for name, tensor in empty.items() if name.startswith("average."))
    with pytest.raises(ValueError, match="no scores"):
        pruner.scores()
    go(train_step, model, layers, pruner, optimizer, first=11, last=11)
    assert pruner.state_dict()["num_observed"] == 1
