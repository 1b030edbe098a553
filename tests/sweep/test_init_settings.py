"""The rules that a sweep for a newcomer is made by: closed forms, and laws over sizes."""

import pytest

from prunedlora.sweep import init_settings as settings

WIDTHS = (4096 + 4096, 4096 + 14336) * 32


def test_the_rate_is_the_published_one_at_rank_16_and_its_steps_are_as_large_at_32() -> None:
    # 5e-5 * 10 * (2000 / 4096) ** 0.781 = 2.856e-4, with alpha 32 / 16 = 2 = 8 / sqrt(16).
    assert settings.learning_rate("llama", 4096, 16) == 2.9e-4
    # At rank 32 the published scaling is 1, and ours 8 / sqrt(32) = 1.414.
    assert settings.learning_rate("llama", 4096, 32) == 2.0e-4
    assert settings.learning_rate("qwen3", 4096, 16) == 4.7e-4
    assert settings.learning_rate("bert", 2000, 16) == 5e-4


def test_the_rate_falls_with_width_and_lies_within_its_range() -> None:
    rates = [settings.learning_rate("llama", width, 16) for width in (384, 768, 2048, 4096, 8192)]
    assert rates == sorted(rates, reverse=True)
    for rate in rates:
        low, high = settings.rate_range(rate)
        assert low < rate < high
        assert high / low == pytest.approx(9, rel=0.1)


def test_rungs_fall_and_have_room() -> None:
    assert settings.rungs(16, WIDTHS) == [4, 1, 0.5, 0.25]
    assert settings.rungs(32, WIDTHS) == [8, 2, 1, 0.5]
    # Four layers of one width hold four components at mean rank 1, and no four below.
    assert settings.rungs(16, (64,) * 4) == [4, 1]
    assert settings.rungs(16, (64, 6400)) == [4]
    assert settings.rungs(16, (64,)) == [4]


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_course_is_some_passes_within_limits(has_gpu: bool) -> None:
    for num_train in (30, 240, 499, 500, 2700, 30_000, 1_000_000):
        found = settings.course(num_train, 22_000_000, has_gpu=has_gpu)
        assert 1 <= found.batch_size <= num_train
        assert found.num_steps <= (3000 if has_gpu else 1000)
        assert found.passes(num_train) <= settings.MOST_PASSES * 1.1
        assert found.num_steps >= min(200, 10 * num_train // found.batch_size)
    assert settings.course(2700, 22_000_000, has_gpu=has_gpu).passes(2700) == pytest.approx(3, rel=0.02)


def test_a_limit_of_length_lets_what_is_usual_pass() -> None:
    assert settings.max_length(53, 98, 512) == 64
    assert settings.max_length(145, 152, None) == 192, "all pass where that is not much more"
    assert settings.max_length(500, 4000, 512) is None, "the model's own"
    assert settings.max_length(16, 16, 512) == 16


def test_the_metric_is_not_won_by_the_largest_class() -> None:
    assert settings.metric_of_classes({"a": 70, "b": 30}) == "accuracy"
    assert settings.metric_of_classes({"a": 80, "b": 20}) == "macro_f1"
