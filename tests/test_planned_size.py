"""Whether a configuration can meet constraints, by what is planned of it."""

from prunedlora.planned_size import PlannedSize, is_too_large

SMALL = PlannedSize(1.0, {"adapter_params": (100, 300), "max_rank": (4, 4)})
LARGE = PlannedSize(0.5, {"adapter_params": (500, 500), "max_rank": (8, 8)})


def test_one_candidate_that_may_meet_them_is_enough() -> None:
    assert not is_too_large([LARGE, SMALL], {"adapter_params": 100})
    assert not is_too_large([LARGE, SMALL], {"adapter_params": 100, "max_rank": 4})
    assert is_too_large([LARGE, SMALL], {"adapter_params": 99})
    assert is_too_large([LARGE, SMALL], {"adapter_params": 100, "max_rank": 3})


def test_nothing_limited_or_nothing_known() -> None:
    assert not is_too_large([LARGE], {})
    assert not is_too_large([], {"adapter_params": 1})
