"""Constraints beside what the layers of the model allow, before anything is trained."""

from typing import Any

import pytest

from prunedlora.config.fields import with_values
from prunedlora.config.load import parse_sweep
from prunedlora.sweep.limits import LimitsError, limits_of
from prunedlora.sweep.plan import search_lines
from prunedlora.sweep.preflight import preflight
from tests.tiny import sweep_tree

RANKS = {"adapter.initial_rank": {"choice": [4, 8], "prior": 8}, "pruning.target_sparsity": {"choice": [0.25, 0.5]}}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return sweep_tree(folder, folder / "store") | {"space": RANKS}


def test_limits_are_held_against_the_space(tree: dict[str, Any]) -> None:
    config = parse_sweep(with_values(tree, {"constraints": {"max_rank": 3}, "known": [{RANK: 4}]}), "test")
    found = preflight(config)
    # The smallest ranks that a training of each corner comes to: 4 → 3 and 2, 8 → 6 and 4.
    assert found.limits is not None
    assert (found.limits.num_fitting, found.limits.num_looked_at, found.limits.num_unknown) == (2, 4, 0)
    assert search_lines(config, None, found.limits) == [
        "First: the priors and 1 known configuration",
        "Limits: max_rank ≤ 3; 2 of 4 corners of the space (50%) can meet them; the others are not trained",
    ]
    # The space is tried whole, but for what the line before leaves out.
    space, config = "Space: it has 4 configurations", config.model_copy(update={"num_trials": 4})
    assert search_lines(config, 4, found.limits)[-1] == f"{space}: those that can meet the limits are tried"
    every = limits_of(config.model_copy(update={"constraints": {"max_rank": 8}}), found.planner)
    assert every is not None
    assert every.line == "Limits: max_rank ≤ 8; 4 of 4 corners of the space (100%) can meet them"
    assert search_lines(config, 4, every)[-1] == f"{space}: all are tried"
    for limits, message in (
        ({"max_rank": 1}, "constraints max_rank ≤ 1: no suggestion of the space has a candidate that can meet it. "),
        ({"max_rank": 2, "adapter_params": 10}, "can meet all of them at once. max_rank: at least 2 (space at "),
    ):
        with pytest.raises(LimitsError) as caught:
            limits_of(config.model_copy(update={"constraints": limits}), found.planner)
        assert message in str(caught.value)
    assert "max_rank: at least 2 (space at adapter.initial_rank=4, pruning.target_sparsity=0.5)" in str(caught.value)
    assert limits_of(config.model_copy(update={"constraints": {}}), found.planner) is None
    nothing_known = limits_of(config, lambda _: ())
    assert nothing_known is not None
    assert (nothing_known.num_fitting, nothing_known.num_unknown) == (4, 4)
    assert "of 4 nothing is known before training" in nothing_known.line


RANK = "adapter.initial_rank"


def test_a_sweep_that_no_suggestion_of_can_meet_its_limits_does_not_start(tree: dict[str, Any]) -> None:
    with pytest.raises(LimitsError, match=r"^constraints adapter_params ≤ 5: .* at least [\d,]+ \(space at adapter"):
        preflight(parse_sweep(with_values(tree, {"constraints": {"adapter_params": 5}}), "test"))
