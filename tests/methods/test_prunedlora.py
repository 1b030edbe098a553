import copy
from dataclasses import replace

import pytest
import torch
from peft import PeftModel

from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.size import measure
from prunedlora.adapters.verify import verify
from prunedlora.methods.prunedlora import PrunedLora
from prunedlora.pruning.ladder import Ladder
from prunedlora.pruning.pruning_settings import PruningSettings
from prunedlora.registry import names
from prunedlora.settings_error import SettingsError
from tests.methods.settings import PRUNING
from tests.pairwise import parametrize_pairwise


def test_sparsity_0_is_plain_lora_bit_for_bit(make_base, make_method, make_optimizer, train):
    trained = []
    for method in (make_method("lora"), make_method("prunedlora", target_rank=None, target_sparsity=0.0)):
        model = method.attach(make_base(), "default")
        assert train(method, model, make_optimizer(model, method)) == []
        trained.append(dict(model.named_parameters()))
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_watching_without_an_event_changes_nothing(make_base, make_method, make_optimizer, train):
    """The curvature's hooks only look: until the first event the adapter is plain LoRA."""
    trained = []
    for method in (make_method("lora"), make_method("prunedlora", begin=0.8)):
        model = method.attach(make_base(), "default")
        assert train(method, model, make_optimizer(model, method), last=8) == []
        trained.append(dict(model.named_parameters()))
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


@parametrize_pairwise(
    allocation=names("allocation"), min_rank=(0, 1), curvature=names("curvature"), side=("A", "B", "both")
)
def test_trained_pruned_exported_and_loaded_by_plain_peft(
    allocation, min_rank, curvature, side, make_base, make_method, make_optimizer, train, tmp_path
):
    base = make_base()
    untouched = copy.deepcopy(base).eval()
    method = make_method(
        "prunedlora", allocation=allocation, min_rank=min_rank, curvature=curvature, recovery_side=side
    )
    model = method.attach(base, "default")
    events = train(method, model, make_optimizer(model, method))
    size = measure(model, "default")
    if allocation == "global_per_parameter":
        widths = [layer.A.shape[1] + layer.B.shape[0] for layer in adapted_layers(model, "default")]
        assert size.adapter_params <= 2 * sum(widths)
    else:
        assert sum(size.ranks.values()) == 2 * len(size.ranks)
    assert events[-1].ranks == size.ranks
    assert min(size.ranks.values()) >= min_rank
    export(model, "default", tmp_path, "some/base")
    batch = {"input_ids": torch.randint(1, 40, (3, 6), generator=torch.Generator().manual_seed(0))}
    certificate = verify(model, "default", tmp_path, batch, merged=True)
    assert certificate.max_logit_change > 0
    plain = PeftModel.from_pretrained(untouched, tmp_path).eval()
    torch.testing.assert_close(plain(**batch).logits, model.eval()(**batch).logits, rtol=0, atol=1e-5)


def test_using_it_before_attaching_is_refused(make_method):
    with pytest.raises(RuntimeError, match="attach the method to a model first"):
        make_method("prunedlora").observe(0.0)


def test_a_target_that_cannot_be_reached_is_refused_at_attaching(make_base, make_method):
    base = make_base()
    with pytest.raises(ValueError, match="target_rank 2 of initial rank 6 removes"):
        make_method("prunedlora", target_rank=2, min_rank=3).attach(base, "default")
    make_method("prunedlora").attach(base, "default")  # the base is as before


def test_the_seed_decides_the_start(make_base, make_method):
    starts = []
    for seed in (0, 0, 1):
        method = make_method("prunedlora")
        method.seed = seed
        starts.append([layer.A for layer in adapted_layers(method.attach(make_base(), "default"), "default")])
    assert all(torch.equal(a, b) for a, b in zip(starts[0], starts[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(starts[0], starts[2], strict=True))


def test_until_statistics_count_it_is_plain_lora_without_a_hook(make_base, make_method, make_optimizer, train):
    """Decay 0.2: five steps count; the first event is on step 9 of 12."""
    method = make_method("prunedlora", ema_decay=0.2, begin=0.7)
    model = method.attach(make_base(), "default")
    optimizer = make_optimizer(model, method)
    for step in range(1, 9):
        assert any(module._forward_hooks for module in model.modules()) == bool(method.statistics()) == (step >= 5)
        assert train(method, model, optimizer, first=step, last=step) == []
    assert [event.step for event in train(method, model, optimizer, first=9)] == [9, 11]
    assert method.state_dict()["num_observed"] == 11 - 4


LADDER = Ladder(
    unit="mean_rank",
    sizes=(3, 1),
    trunk=0.5,
    shares=None,
    removal="one_shot",
    removal_end=None,
    every_steps=None,
    rate="continue",
    rung_rate=None,
    warmup=None,
    branch=None,
    optimizer_state="kept",
)
NO_SCHEDULE = dict.fromkeys(("target_rank", "schedule", "begin", "end", "every_steps"))


def test_a_training_too_short_for_its_rungs_is_refused_before_anything_is_attached(adapter):
    settings = PruningSettings(**PRUNING | NO_SCHEDULE, ladder=LADDER)
    with pytest.raises(SettingsError, match="rung 1 of the ladder lacks a step in a training of 1 steps"):
        PrunedLora(adapter, 0, 1, settings)


def test_rungs_that_the_model_forbids_are_refused_at_attaching(make_base, make_method):
    base = make_base()
    for sizes, message in [
        ((10**6,), r"rung 1 of the ladder \(parameters 1000000\) removes nothing: the adapter has "),
        (
            (300, 10),
            r"rung 2 of the ladder \(parameters 10\) is below what min_rank 1 keeps; take at least parameters ",
        ),
        ((300, 299), r"\(parameters 299\) comes out as rung 1 of the ladder \(parameters 300\) does"),
    ]:
        method = make_method(
            "prunedlora", **NO_SCHEDULE, ladder=replace(LADDER, unit="parameters", sizes=sizes), allocation="uniform"
        )
        with pytest.raises(ValueError, match=message):
            method.attach(base, "default")
    assert not any("lora" in name for name, _ in base.named_modules())


def test_rungs_begin_where_the_loop_says_and_every_adapter_is_of_its_rung(
    make_base, make_method, make_optimizer, train
):
    method = make_method("prunedlora", **NO_SCHEDULE, ladder=LADDER)
    model = method.attach(make_base(), "default")
    optimizer = make_optimizer(model, method)
    sizes, events = [], []
    for begin, end in ((0, 6), (6, 9), (9, 12)):
        events.append(method.begin_rung(begin, begin / 12, optimizer))
        assert method.begin_rung(begin, begin / 12, optimizer) is None
        assert train(method, model, optimizer, first=begin + 1, last=end) == []
        ranks = measure(model, "default").ranks
        sizes.append(sum(ranks.values()) / len(ranks))
    assert [event and event.step for event in events] == [None, 6, 9]
    assert sizes == [6, 3, 1]


@pytest.mark.parametrize(
    ("settings", "setting"),
    [({"target_rank": 99}, "target_rank"), ({"target_rank": None, "target_sparsity": 0.99}, "target_sparsity")],
)
def test_a_target_that_the_layers_cannot_come_to_is_the_users_fault(settings, setting, make_base, make_method):
    base = make_base()
    with pytest.raises(SettingsError, match=rf"^pruning\.{setting}: {setting} "):
        make_method("prunedlora", **settings).attach(base, "default")
    assert not any(hasattr(module, "lora_A") for module in base.modules())
