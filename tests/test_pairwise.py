from itertools import product

from tests.pairwise import pairs, pairwise, parametrize_pairwise


def all_pairs(rows):
    return {pair for row in rows for pair in pairs(row)}


def test_every_pair_of_values_is_in_a_chosen_row():
    rows = list(product("abcd", range(3), (None, 0.5), (True, False), "xyz"))
    chosen = [rows[i] for i in pairwise(rows)]
    assert all_pairs(chosen) == all_pairs(rows)
    assert len(chosen) <= 16  # at least 4 · 3; the product has 144


def test_what_is_not_allowed_is_neither_chosen_nor_missed():
    rows = [row for row in product("abc", "abc", "abc") if len(set(row)) > 1 and row[:2] != ("a", "b")]
    chosen = [rows[i] for i in pairwise(rows)]
    assert all_pairs(chosen) == all_pairs(rows)
    assert (0, "a", 1, "b") not in all_pairs(chosen)


def test_the_choice_is_the_same_every_time_and_its_indices_rise():
    rows = list(product(range(4), range(4), range(4)))
    assert pairwise(rows) == sorted(pairwise(rows)) == pairwise(list(rows))


def test_no_rows_and_single_values():
    assert pairwise([]) == []
    assert pairwise([("a",), ("b",)]) == []  # one axis has no pairs
    assert pairwise([("a", 1)]) == [0]


def test_a_test_is_tried_on_the_product_and_what_is_not_chosen_is_slow():
    axes = {"letter": "abc", "number": (1, 2, 3), "flag": (True, False)}
    mark = parametrize_pairwise(**axes).mark
    assert mark.args[0] == ("letter", "number", "flag")
    assert [tuple(param.values) for param in mark.args[1]] == list(product(*axes.values()))
    plain = [param.values for param in mark.args[1] if not param.marks]
    assert all_pairs(plain) == all_pairs(product(*axes.values()))
    assert {mark.name for param in mark.args[1] for mark in param.marks} == {"slow"}
    assert len(plain) < len(mark.args[1])
