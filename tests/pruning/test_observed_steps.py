"""What is observed: the steps that still count at the first event, and no others."""

import pytest
import torch

from prunedlora.adapters.shrink import set_factors
from prunedlora.pruning.observed_steps import NEGLIGIBLE, first_event, num_that_count
from prunedlora.pruning.pruner import Pruner
from prunedlora.registry import names
from tests.pairwise import parametrize_pairwise
from tests.pruning.factors import assert_equal, factors
from tests.pruning.variants import NUM_STEPS

DECAY = 0.2
"""5 steps count."""
LATE = {"ema_decay": DECAY, "schedule": "linear", "begin": 0.5, "end": 0.8}
"""The first event is on step 12 of 20 (every 2 steps), the first observed step 8."""
FORMS = {
    "token": {},
    "token of A": {"recovery_side": "A"},
    "batch of both": {"curvature": "batch", "recovery_side": "both"},
    "with gradient": {"gradient_cap": 0.5},
    "batch with gradient": {"curvature": "batch", "gradient_cap": 0.5},
    "taylor": {"criterion": "taylor", "curvature": None, "recovery_side": None, "recovery_strength": 0.0},
    "activation": {"criterion": "activation", "curvature": "token"},
    "activation_obs": {"criterion": "activation_obs", "curvature": None},
    "whitened": {
        "basis": "whitened",
        "criterion": None,
        "curvature": None,
        "recovery_side": None,
        "recovery_strength": None,
        "moments": "mapped",
    },
}
"""One for everything that is averaged."""
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


@pytest.mark.parametrize(("decay", "num"), [(0.0, 1), (1e-4, 1), (0.2, 5), (0.8, 31), (0.9, 66), (0.95, 135)])
def test_what_came_before_the_steps_that_count_has_a_share_below_the_negligible_one(decay, num):
    assert num_that_count(decay) == num
    assert decay**num <= NEGLIGIBLE < decay ** (num - 1)


@parametrize_pairwise(
    schedule=names("schedule"),
    allocation=names("allocation"),
    every_steps=(1, 3, 7, 50),
    begin=(0.0, 0.31, 0.9, 1.0),
    round_to=(None, 2),
)
def test_the_first_event_is_where_one_that_observes_all_has_it(
    schedule, allocation, every_steps, begin, round_to, make_network, make_settings, make_optimizer, train_step
):
    end = None if schedule == "one_shot" else min(begin + 0.5, 1.0)
    if end == begin:
        return  # no schedule
    settings = make_settings(
        schedule=schedule, allocation=allocation, every_steps=every_steps, begin=begin, end=end, round_to=round_to
    )
    model, layers = make_network(started=True)
    pruner, optimizer = Pruner(settings, layers), make_optimizer(model)
    seen = [step for step in range(1, NUM_STEPS + 1) if train_step(model, pruner, optimizer, step)]
    per_layer, total = 4, 12
    widths = sum(layer.A.shape[1] + layer.B.shape[0] for layer in layers)
    num = {"uniform": per_layer, "global": total, "global_per_parameter": per_layer * widths}[allocation]
    least = 1 if allocation == "global_per_parameter" else round_to or 1
    assert first_event(settings, NUM_STEPS, num, least) == seen[0]


@every_form
def test_no_hook_and_no_statistic_before_the_first_step_that_counts(
    form, make_network, make_settings, make_optimizer, train_step
):
    model, layers = make_network()
    pruner, optimizer = Pruner(make_settings(**LATE | form), layers, num_steps=NUM_STEPS), make_optimizer(model)
    for step in range(1, NUM_STEPS + 1):
        is_watching = step >= 8 and not pruner.is_done
        hooks = any(module._forward_hooks for module in model.modules())
        reads_gradients = form.get("curvature") == "batch" or form.get("criterion") == "taylor"
        assert hooks == bool(pruner.statistics()) == (is_watching and not reads_gradients)
        averages = {name for name in pruner.state_dict() if name.startswith("average.")}
        assert bool(averages) == is_watching
        event = train_step(model, pruner, optimizer, step)
        assert pruner.state_dict()["num_observed"] == max(0, min(step, 16) - 7)
        assert (event is not None) == (step in (12, 14, 16))
    assert {layer.rank for layer in layers} == {2}


@every_form
@pytest.mark.parametrize("hold", [False, True])
def test_the_choices_are_those_of_averages_over_all_steps(
    form, hold, make_network, make_settings, make_optimizer, train_step
):
    """The averages at the first event differ by less than the negligible share, and what goes is the same."""
    removed, averages = [], []
    for num_steps in (None, NUM_STEPS):
        model, layers = make_network()
        pruner = Pruner(make_settings(**LATE | form), layers, hold=hold, num_steps=num_steps)
        optimizer, events = make_optimizer(model), []
        for step in range(1, NUM_STEPS + 1):
            if step == 12:
                averages.append(pruner._averages.corrected())
            events.append(train_step(model, pruner, optimizer, step))
        removed.append([event.removed for event in events if event])
    assert removed[0] == removed[1]
    assert len(removed[0]) == 3
    for name, whole in averages[0].items():
        for a, b in zip(whole, averages[1][name], strict=True):
            # Before the event's own step four of the five steps are in: what is missing has a share of decay⁴.
            assert (a - b).norm() <= 2 * DECAY**4 * a.norm()


@every_form
@pytest.mark.parametrize("hold", [False, True])
def test_resuming_before_at_and_after_the_beginning_of_observation_equals_going_on_bit_for_bit(
    form, hold, make_network, make_settings, make_optimizer, train_step
):
    settings = make_settings(**LATE | form)
    model, layers = make_network()
    pruner, optimizer = Pruner(settings, layers, hold=hold, num_steps=NUM_STEPS), make_optimizer(model)
    checkpoints, events = {}, []
    for step in range(1, NUM_STEPS + 1):
        events.append(train_step(model, pruner, optimizer, step))
        if step in (4, 7, 8, 12):
            moments = {
                i: {k: v.clone() for k, v in state.items()} for i, state in optimizer.state_dict()["state"].items()
            }
            state = {name: tensor.clone() for name, tensor in pruner.state_dict().items()}
            checkpoints[step] = factors(layers), moments, state
    for done, (values, moments, state) in checkpoints.items():
        other, others = make_network()
        resumed = Pruner(settings, others, hold=hold, num_steps=NUM_STEPS)
        its_optimizer = make_optimizer(other)
        for layer, (A, B) in zip(others, values, strict=True):
            set_factors(layer, A, B, its_optimizer)
        its_optimizer.load_state_dict({**its_optimizer.state_dict(), "state": moments})
        resumed.load_state_dict(state)
        assert resumed.rate_factor == 1.0 if done < 12 else resumed.done_share > 0
        later = [train_step(other, resumed, its_optimizer, step) for step in range(done + 1, NUM_STEPS + 1)]
        assert later == events[done:]
        assert_equal(factors(others), factors(layers))


def test_a_state_without_averages_is_refused_where_some_are_due(make_network, make_settings):
    _, layers = make_network()
    with pytest.raises(ValueError, match=r"missing or unexpected: average\.curvature\.B\.first"):
        Pruner(make_settings(**LATE), layers).load_state_dict({"num_observed": torch.tensor(0)})


def test_nothing_is_removed_after_a_step_that_was_discarded(make_network, make_settings, data):
    model, layers = make_network(started=True)
    pruner = Pruner(make_settings(), layers)
    x, y = data(0)
    (model(x) - y).square().sum().backward()
    pruner.observe()
    assert pruner.step(1, 0.1, None) is None
    pruner.discard()
    assert pruner.step(10, 0.5, None) is None
    assert pruner.step(10, 0.5, None) is not None


def test_observation_begins_on_time_though_the_step_before_was_discarded(make_network, make_settings):
    model, layers = make_network(started=True)
    pruner = Pruner(make_settings(**LATE), layers, num_steps=NUM_STEPS)
    pruner.discard()
    pruner.step(7, 7 / NUM_STEPS, None)
    assert pruner.statistics()
    assert any(module._forward_hooks for module in model.modules())


def test_the_rate_grows_at_events_only_and_is_not_worked_out_between(
    make_network, make_settings, make_optimizer, train_step, monkeypatch
):
    model, layers = make_network()
    pruner = Pruner(make_settings(rate_growth=0.5), layers)
    optimizer, looks = make_optimizer(model), []
    stock = pruner._take_stock
    monkeypatch.setattr(pruner, "_take_stock", lambda: (looks.append(1), stock()))
    num_events = 0
    for step in range(1, NUM_STEPS + 1):
        num_events += train_step(model, pruner, optimizer, step) is not None
        ranks = [layer.rank for layer in layers]
        assert pruner.rate_factor == float((6 * 3 / sum(ranks)) ** 0.5)
    assert len(looks) == num_events > 1
