import pytest

from prunedlora.results.analysis.find import UnknownCandidateError, find_candidate


def found(store, name):
    record, candidate = find_candidate(store, name)
    return f"{record.key}@{candidate.name}"


def test_a_key_alone_is_its_last_trained_candidate_and_a_name_is_itself(fill, record, candidate, cut):
    store = fill(record("a1", candidate(step=5), candidate(step=10), candidate(step=10, cut=cut(1))))
    assert found(store, "a1") == "a1@10"
    assert found(store, "a1@10r1") == "a1@10r1"
    assert found(store, "a1@5") == "a1@5"
    assert found(store, "a1@10") == "a1@10"


def test_the_beginning_of_a_key_stands_for_it_where_no_other_begins_so(fill, record, candidate):
    store = fill(record("ab12", candidate(step=5), candidate(step=10)), record("ab1"), record("c3"))
    assert found(store, "c") == "c3@10"
    assert found(store, "ab12@5") == "ab12@5"
    assert found(store, "ab1") == "ab1@10"  # a whole key, though it begins another
    with pytest.raises(UnknownCandidateError, match=r"'ab' begins the keys of 2 trials of /.*: ab1, ab12$"):
        find_candidate(store, "ab@5")


def test_errors_list_ten_and_say_how_many_more(fill, record, candidate):
    """Of keys that begin alike, of all keys, of a trial's candidates."""
    steps = [candidate(step=step) for step in range(1, 14)]
    store = fill(*(record(f"k{i:02d}") for i in range(11)), record("m", *steps))
    ten = ", ".join(f"k{i:02d}" for i in range(10))
    for name, message in (
        ("k", f"'k' begins the keys of 11 trials of /.*: {ten} and 1 more$"),
        ("x", f"has no trial 'x'; it has: {ten} and 2 more$"),
        ("m@20", "trial m has no candidate '20'; it has: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more$"),
    ):
        with pytest.raises(UnknownCandidateError, match=message):
            find_candidate(store, name)


def test_recommended_and_best_are_what_the_report_names(fill, record, candidate):
    store = fill(
        record("a1", candidate(0.895, params=50, step=5), candidate(0.9, params=200)),
        record("b2", candidate(0.9, params=100)),
        record("c3", candidate(0.5, params=10)),
    )
    assert found(store, "recommended") == "a1@5"  # half a point worse than the best, half as large
    assert found(store, "best") == "b2@10"  # as good as a1@10, and smaller


def test_best_is_by_the_objectives_of_the_store(fill, record, candidate):
    records = record("a1", candidate(0.9, params=100)), record("b2", candidate(0.5, params=10))
    assert found(fill(*records, objectives={"loss": "minimize", "adapter_params": "minimize"}), "best") == "a1@10"


@pytest.mark.parametrize("name", ["recommended", "best"])
def test_where_there_is_no_such_candidate_it_says_why(name, fill, failed):
    with pytest.raises(UnknownCandidateError, match=f"has no {name} candidate. No trial has finished yet"):
        find_candidate(fill(), name)
    with pytest.raises(UnknownCandidateError, match=f"has no {name} candidate. All 1 trials failed"):
        find_candidate(fill(failed("a1")), name)
    with pytest.raises(UnknownCandidateError, match=f"'{name}@5': {name} is one candidate already, leave out '@5'"):
        find_candidate(fill(), f"{name}@5")


@pytest.mark.parametrize("name", ["recommended", "best"])
def test_without_adapter_files_there_is_neither_a_best_nor_one_to_recommend(name, fill, record, candidate):
    store = fill(record("a1", candidate(adapter_path=None)))
    with pytest.raises(UnknownCandidateError, match=rf"has no {name} candidate\. No candidate has an adapter file"):
        find_candidate(store, name)


def test_the_best_is_one_with_a_file(fill, record, candidate):
    store = fill(record("a1", candidate(0.9, adapter_path=None), candidate(0.8, 50, 20), candidate(0.7, 10, 30)))
    assert found(store, "best") == "a1@20"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b2", "has no trial 'b2'; it has: a1, c3"),
        ("", "has no trial ''; it has: a1, c3"),
        ("a1@7", "trial a1 has no candidate '7'; it has: 5"),
        ("a1@", "'a1@': no candidate after the @"),
        ("c3", r"trial c3 \(failed\) has no candidates"),
    ],
)
def test_a_name_that_nothing_has_is_told_what_there_is(name, message, fill, record, candidate, failed):
    store = fill(record("a1", candidate(step=5)), failed("c3"))
    with pytest.raises(UnknownCandidateError, match=message):
        find_candidate(store, name)


def test_in_an_empty_store(fill):
    with pytest.raises(UnknownCandidateError, match=r"has no trial 'a'; it has: none$"):
        find_candidate(fill(), "a")
