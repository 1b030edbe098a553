"""Second moments for cuts: what they are, and that the training is none the wiser."""

from typing import Any

import pytest
import torch
from torch import Tensor

from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig, trial_with
from prunedlora.training.calibration import second_moments
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import NonFiniteError
from prunedlora.training.loss_scale import LossScale
from prunedlora.training.memory import TooLittleMemoryError
from prunedlora.training.trial import Trial
from prunedlora.trial.assemble import build_method, build_trial
from prunedlora.trial.assets import AssetCache
from tests.tiny import sweep_tree

ALONE = Workers(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    """With dropout in base and adapter, and a pruner that watches."""
    trial = parse_sweep(sweep_tree(tmp_path_factory.mktemp("tiny"), "unused"), "test").trial
    return trial_with(trial, {"model.config_overrides": {}, "adapter.dropout": 0.2})


@pytest.fixture(scope="module")
def assets(config: TrialConfig) -> Any:
    return AssetCache(ALONE.device).get(config)


@pytest.fixture
def live(config: TrialConfig, assets: Any) -> Any:
    """At step 2, with factors that do something."""
    method = build_method(config, 12)
    model = method.attach(assets.base.model, "default")
    trial = build_trial(config, assets, model, method, ALONE)
    trial.step = 2
    with torch.no_grad():
        for layer in method.layers:
            layer.B.normal_(std=0.3, generator=torch.Generator().manual_seed(layer.B.shape[0]))
    model.train()
    yield trial
    method.close()
    method.detach(model)


def assert_close(found: Any, expected: Any) -> None:
    for moments, others in zip(found, expected, strict=True):
        for left, right in zip(moments, others, strict=True):
            torch.testing.assert_close(left, right, rtol=2e-5, atol=1e-7)


def state_of(live: Trial) -> dict[str, Any]:
    return {
        "modes": [module.training for module in live.model.modules()],
        "fit": vars(live.fit).copy(),
        "scale": None if live.loss_scale is None else vars(live.loss_scale).copy(),
        "checkpointing": [getattr(module, "gradient_checkpointing", None) for module in live.model.modules()],
        "gradients": [parameter.grad for parameter in live.model.parameters()],
        "watched": [float(tensor.abs().sum()) for tensor in live.method.statistics()],
        "hooks": [len(layer.lora_A._forward_hooks) for layer in live.method.layers],
    }


def test_no_more_examples_are_passed_than_there_are(live: Trial) -> None:
    everything = second_moments(live, live.method.layers, ALONE, len(live.order.features))
    assert_close(second_moments(live, live.method.layers, ALONE, 10**6), everything)


def test_moments_are_those_of_the_examples_that_come_next_without_dropout(live: Trial) -> None:
    """Oracle: every example by itself, in evaluation mode, h and u read off."""
    before = state_of(live)
    found = second_moments(live, live.method.layers, ALONE, 12)  # two batches of 8
    assert state_of(live) == before
    layer = live.method.layers[1]
    sum_h, num_h, sum_u, outputs = 0.0, 0, 0.0, list[Tensor]()

    def keep(_: Any, __: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    live.model.eval()
    handle = layer.lora_A.register_forward_hook(keep)
    for position in range(2 * 8, 4 * 8):
        feature = live.order.features[live.order._at(position)]
        loss, _ = live.task.loss(live.model, live.task.collate([feature]))
        loss.backward()
        output = outputs.pop()
        assert output.grad is not None
        h, u = output.detach().flatten(0, -2), output.grad.flatten(0, -2)
        sum_h, num_h, sum_u = sum_h + h.mT @ h, num_h + len(h), sum_u + u.mT @ u
    handle.remove()
    live.model.train()
    live.optimizer.zero_grad()
    live.method.discard()
    assert_close(([found[0][1]], [found[1][1]]), ([sum_h / num_h], [sum_u]))


def test_passes_are_halved_where_memory_does_not_suffice_and_the_training_keeps_its_own(
    live: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = second_moments(live, live.method.layers, ALONE, 8)
    before, sizes, loss = state_of(live), list[int](), live.task.loss

    def tight(model: Any, batch: dict[str, Tensor]) -> Any:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("no room")
        return loss(model, batch)

    monkeypatch.setattr(live.task, "loss", tight)
    assert_close(second_moments(live, live.method.layers, ALONE, 8), expected)
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert state_of(live) == before


def test_activations_are_computed_twice_where_a_single_example_does_not_fit(
    live: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = second_moments(live, live.method.layers, ALONE, 8)
    before, loss = state_of(live), live.task.loss

    def tight(model: Any, batch: dict[str, Tensor]) -> Any:
        is_saving = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        if not is_saving or len(batch["input_ids"]) > 1:
            raise torch.OutOfMemoryError("no room")
        return loss(model, batch)

    monkeypatch.setattr(live.task, "loss", tight)
    assert live.may_checkpoint
    assert_close(second_moments(live, live.method.layers, ALONE, 8), expected)
    assert state_of(live) == before
    live.may_checkpoint = False
    with pytest.raises(TooLittleMemoryError, match=r"cuts in basis 'whitened' are calibrated on \(step 2\).*no room"):
        second_moments(live, live.method.layers, ALONE, 8)
    assert state_of(live) == before


@pytest.mark.parametrize("scale", [2.0**16, 2.0**120])
def test_losses_are_scaled_and_what_overflows_is_done_again_with_half(live: Trial, scale: float) -> None:
    expected = second_moments(live, live.method.layers, ALONE, 8)
    live.loss_scale = LossScale(scale)
    before = state_of(live)
    assert_close(second_moments(live, live.method.layers, ALONE, 8), expected)
    assert state_of(live) == before


def test_moments_that_are_not_finite_are_refused(live: Trial) -> None:
    with torch.no_grad():
        live.method.layers[0].A.fill_(torch.inf)
    with pytest.raises(NonFiniteError, match="second moments for cuts in basis 'whitened' are not finite at step 2"):
        second_moments(live, live.method.layers, ALONE, 8)


def test_the_order_is_that_of_the_course(live: Trial) -> None:
    found = second_moments(live, live.method.layers, ALONE, 8)
    live.step = 3
    other = second_moments(live, live.method.layers, ALONE, 8)
    assert not torch.equal(found[0][0], other[0][0])
