"""What of a sweep may not change once something was asked; test_store.py has it refused."""

from prunedlora.results.sweep_binding import changed_contents, differing_fields


def test_every_leaf_of_the_fixed_fields_that_differs_is_a_line() -> None:
    old = {"trial": {"adapter": {"method": "lora", "alpha": 8}, "seed": 0}, "seed": 1, "num_trials": 4}
    new = {"trial": {"adapter": {"method": "svd", "alpha": 8}}, "seed": 1, "num_trials": 9}
    assert differing_fields(old, new) == ['trial.adapter.method was "lora", is "svd"', "trial.seed was 0, is null"]


def test_tuples_are_the_lists_that_yaml_makes_of_them() -> None:
    assert differing_fields({"space": {"seed": [1, 2]}}, {"space": {"seed": (1, 2)}}) == []


def test_contents_are_compared_where_both_know_them() -> None:
    known = {"b": {"f": "1"}, "a": "x", "gone": "y"}
    assert changed_contents(known, {"b": {"f": "2"}, "a": "z", "new": "w"}) == ["a", "b"]
    assert changed_contents(known, {"b": {"f": "1"}}) == []


def test_constraints_bind_and_a_store_of_before_there_were_any_has_none() -> None:
    limits = {"constraints": {"max_rank": 8.0}}
    assert differing_fields({}, {"constraints": {}}) == []
    assert differing_fields({}, limits) == ["constraints.max_rank was null, is 8.0"]
    assert differing_fields(limits, {"constraints": {"max_rank": 16.0}}) == ["constraints.max_rank was 8.0, is 16.0"]


def test_telling_is_bound_as_the_sampler_is_and_was_last_before_there_was_any() -> None:
    assert differing_fields({}, {"telling": "last"}) == []
    assert differing_fields({}, {"telling": "candidates"}) == ['telling was "last", is "candidates"']
    assert differing_fields({"telling": "area"}, {"telling": "last"}) == ['telling was "area", is "last"']
