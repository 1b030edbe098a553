from itertools import product

import pytest

from prunedlora.tasks.class_shares import class_shares


@pytest.mark.parametrize(
    ("sizes", "number", "shares"),
    [
        ({"a": 60, "b": 30, "c": 10}, 10, {"a": 6, "b": 3, "c": 1}),
        ({"a": 500, "b": 500}, 100, {"a": 50, "b": 50}),
        ({"a": 41, "b": 79, "c": 30}, 31, {"a": 9, "b": 16, "c": 6}),
        ({"a": 7, "b": 13, "c": 101}, 12, {"a": 1, "b": 1, "c": 10}),
    ],
)
def test_shares_are_those_of_scikit_learn(sizes: dict[str, int], number: int, shares: dict[str, int]) -> None:
    """What train_test_split(stratify=...) of scikit-learn 1.9.1 takes."""
    assert class_shares(sizes, number, 1) == shares


def test_every_class_is_on_both_sides_and_no_share_is_far_from_its_quota() -> None:
    for a, b, c, keep in product((3, 7, 50), (3, 10, 400), (3, 4, 1000), (1, 2)):
        sizes = {"a": a, "b": b, "c": c}
        for number in range(3, a + b + c - 3 * keep + 1, 7):
            shares = class_shares(sizes, number, keep)
            assert sum(shares.values()) == number
            assert all(1 <= shares[name] <= sizes[name] - keep for name in sizes)
            free = [name for name in sizes if 1 < shares[name] < sizes[name] - keep]
            surplus = [shares[name] - number * sizes[name] / (a + b + c) for name in free]
            assert max(surplus, default=0) - min(surplus, default=0) <= 1 + 1e-9


def test_rare_classes_get_one() -> None:
    assert class_shares({"a": 10_000, "b": 3, "c": 2}, 100, 1) == {"a": 98, "b": 1, "c": 1}


def test_equal_remainders_go_by_name() -> None:
    assert class_shares({"b": 10, "a": 10}, 5, 1) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("sizes", "number", "message"),
    [
        ({"a": 9, "b": 2}, 3, "class 'b' has 2 and needs 3, one for each split$"),
        ({"a": 9, "b": 2, "c": 1}, 3, r"class 'b' has 2 and needs 3, one for each split \(2 classes have too few\)"),
        ({"a": 9, "b": 9, "c": 9}, 2, "2 is below the number of classes, 3, each of which is to have one"),
        ({"a": 3, "b": 4}, 4, "at most 3 leave each class 2 for the other splits"),
    ],
)
def test_what_cannot_be(sizes: dict[str, int], number: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_shares(sizes, number, 2)
