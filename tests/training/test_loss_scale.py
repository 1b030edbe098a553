import pytest
import torch

from prunedlora.training.loss_scale import INITIAL, STEPS_TO_DOUBLE, LossScale, loss_scale_for


def test_it_is_halved_down_to_one() -> None:
    scale = LossScale(4.0)
    assert [(scale.halve(), scale.scale) for _ in range(3)] == [(True, 2.0), (True, 1.0), (False, 1.0)]


def test_it_is_doubled_after_as_many_steps_without_an_overflow() -> None:
    scale, found = LossScale(), []
    for step in range(2 * STEPS_TO_DOUBLE):
        if step == 10:
            assert scale.halve()
        scale.count_step()
        found.append(scale.scale)
    assert found[9:11] == [INITIAL, INITIAL / 2]
    assert found.index(INITIAL, 10) == 10 + STEPS_TO_DOUBLE - 1
    assert scale == LossScale(INITIAL, STEPS_TO_DOUBLE - 10)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.float32, None), (torch.bfloat16, None), (torch.float16, LossScale(2.0**16, 0))]
)
def test_only_float16_needs_it(dtype: torch.dtype, expected: LossScale | None) -> None:
    assert loss_scale_for(dtype) == expected
