import pytest

from prunedlora.results.find import UnknownCandidateError, find_candidate


def test_a_key_alone_is_its_last_candidate_and_a_step_is_itself(fill, record, candidate):
    store = fill(record("a1", candidate(step=5), candidate(step=10), candidate(step=10, truncated_rank=1)))
    assert find_candidate(store, "a1")[1].name == "10r1"
    assert find_candidate(store, "a1@5")[1].step == 5
    assert find_candidate(store, "a1@10")[0].key == "a1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b2", "has no trial 'b2'; it has: a1, c3"),
        ("", "has no trial ''; it has: a1, c3"),
        ("a1@7", "trial a1 has no candidate at step '7'; it has: 5"),
        ("c3", r"trial c3 \(failed\) has no candidates"),
    ],
)
def test_a_name_that_nothing_has_is_told_what_there_is(name, message, fill, record, candidate, failed):
    store = fill(record("a1", candidate(step=5)), failed("c3"))
    with pytest.raises(UnknownCandidateError, match=message):
        find_candidate(store, name)
