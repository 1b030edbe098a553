"""What shrink says before it begins."""

import pytest

from prunedlora.sweep.shrink_words import listed


@pytest.mark.parametrize(
    ("num", "text"),
    [
        (2, "c0, c1"),
        (12, "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11"),
        (77, "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, …, c76 (77 in all)"),
    ],
)
def test_of_many_classes_the_first_and_the_last_are_named(num: int, text: str) -> None:
    assert listed([f"c{number}" for number in range(num)]) == text
