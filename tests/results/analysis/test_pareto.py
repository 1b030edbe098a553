import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunedlora.results.analysis.pareto import (
    Objectives,
    ObjectivesError,
    best_full,
    front,
    hypervolume,
    points,
    reference,
)
from prunedlora.results.record import BaseReference, Figure, ObjectiveError
from prunedlora.results.recorded_settings import FULL, method

ACCURACY = Objectives.parse({"accuracy": "maximize", "adapter_params": "minimize"})
LOSS = Objectives.parse({"adapter_params": "minimize", "loss": "minimize"})
# Few different values, so that ties are common.
PAIRS = st.lists(st.tuples(st.integers(0, 4).map(lambda i: i / 4), st.integers(0, 5)), max_size=12)


@pytest.fixture(scope="module")
def points_of(record, candidate):
    """Points of (accuracy, params) pairs, one trial each, keys in order of the pairs."""

    def make(pairs, objectives=ACCURACY):
        return points([record(f"k{i:02d}", candidate(*pair)) for i, pair in enumerate(pairs)], objectives)

    return make


@given(pairs=PAIRS)
@pytest.mark.parametrize("objectives", [ACCURACY, LOSS])
def test_front_is_what_brute_force_finds(pairs, objectives, points_of):
    all_points = points_of(pairs, objectives)

    def dominates(a, b):
        gain = objectives.gain(a.quality.value) - objectives.gain(b.quality.value)
        return gain >= 0 and a.size <= b.size and (gain > 0 or a.size < b.size)

    def first_of_equals(point):
        equal = [p for p in all_points if (p.quality.value, p.size) == (point.quality.value, point.size)]
        return point is min(equal, key=lambda p: (p.key, p.step))

    expected = [p for p in all_points if first_of_equals(p) and not any(dominates(other, p) for other in all_points)]
    found = front(all_points, objectives)
    assert sorted(p.key for p in found) == [p.key for p in expected]
    assert [p.size for p in found] == sorted(p.size for p in found)


@given(pairs=PAIRS, seed=st.randoms(use_true_random=False))
def test_front_does_not_depend_on_the_order(pairs, seed, points_of):
    shuffled = points_of(pairs)
    expected = front(shuffled, ACCURACY)
    seed.shuffle(shuffled)
    assert front(shuffled, ACCURACY) == expected


def test_of_equals_the_first_by_key_and_step_stands(record, candidate):
    later, earlier = record("b", candidate(0.5, 10)), record("a", candidate(0.5, 10, 3), candidate(0.5, 10, 4))
    assert [(p.key, p.step) for p in front(points([later, earlier], ACCURACY), ACCURACY)] == [("a", 3)]


def test_milestones_count_and_what_failed_trials_left(record, candidate, failed):
    stopped = record("s", candidate(0.4, 90, 1), candidate(0.3, 80, 2), status="stopped")
    found = points([failed("f", candidate(0.9, 1)), failed("none"), stopped, record("c")], ACCURACY)
    assert [(p.key, p.step) for p in found] == [("c", 10), ("f", 10), ("s", 1), ("s", 2)]


def test_the_reference_of_full_fine_tuning_counts_where_it_failed_later(candidate, failed):
    full = failed("f", candidate(0.8, 0)).model_copy(update={"config": {"full": {}}})
    assert method(full) == FULL
    assert points([full], ACCURACY) == []
    assert best_full([full], ACCURACY) == full.candidates[0].figures["accuracy"]


def test_what_no_slot_holds_has_no_place_on_an_axis_of_slots(record, candidate):
    too_large = record("a", candidate(served_slot=None, max_rank=600, step=1), candidate(step=2))
    slots = Objectives.parse({"accuracy": "maximize", "served_slot": "minimize"})
    assert [p.step for p in points([too_large], slots)] == [2]
    assert len(points([too_large], ACCURACY)) == 2
    sized = record("a", candidate(served_slot=None, max_rank=600, step=1), candidate(step=2, served_slot_bytes=4096))
    assert [(p.step, p.size) for p in points([sized], ACCURACY.with_size("served_slot_bytes"))] == [(2, 4096.0)]


def test_another_size_can_be_the_axis(record, candidate):
    on_disk = ACCURACY.with_size("file_bytes")
    assert on_disk.as_dict() == {"accuracy": "maximize", "file_bytes": "minimize"}
    assert points([record("a", candidate(0.5, 10))], on_disk)[0].size == 240
    with pytest.raises(ObjectivesError, match="'bytes' is no size; known: adapter_params, adapter_bytes, file_bytes"):
        ACCURACY.with_size("bytes")


def test_an_axis_of_bytes_that_are_not_on_record_is_refused(record):
    with pytest.raises(ObjectiveError, match="'served_slot_bytes' has no value at step 10"):
        points([record("a")], ACCURACY.with_size("served_slot_bytes"))


def test_a_quality_that_was_not_recorded_is_refused(record):
    with pytest.raises(ObjectiveError, match="'exact_match' is no recorded figure; recorded: accuracy, loss"):
        points([record()], Objectives.parse({"exact_match": "maximize", "adapter_params": "minimize"}))


def test_hypervolume_by_hand(points_of):
    # Reference accuracy 0, size 44: .5 wide-open from 10 to 44, then .25 more from 20, then .25 more from 40.
    all_points = points_of([(0.5, 10), (0.75, 20), (1.0, 40), (0.5, 30)])
    origin = reference(all_points, ACCURACY, base=None)
    assert (origin.quality, origin.size) == (0.0, 44.0)
    expected = 0.5 * 34 + 0.25 * 24 + 0.25 * 4
    assert hypervolume(all_points, ACCURACY, origin) == pytest.approx(expected, abs=1e-10)
    assert hypervolume(front(all_points, ACCURACY), ACCURACY, origin) == pytest.approx(expected, abs=1e-10)


def test_hypervolume_of_a_loss(points_of):
    all_points = points_of([(0.5, 10), (0.75, 20)], LOSS)
    base = BaseReference(figures={"loss": Figure(value=2.0, num_examples=1)})
    origin = reference(all_points, LOSS, base)
    assert (origin.quality, origin.size) == (2.0, 22.0)
    assert origin.rule == "loss of the base model; adapter_params 1.1 times the largest candidate's"
    assert hypervolume(all_points, LOSS, origin) == pytest.approx(1.5 * 12 + 0.25 * 2, abs=1e-10)
    assert reference(all_points, LOSS, base=None).quality == 0.5
    assert "worst loss of all candidates" in reference(all_points, LOSS, base=None).rule


def test_nothing_spans_nothing(points_of):
    assert front([], ACCURACY) == []
    origin = reference([], ACCURACY, None)
    assert hypervolume([], ACCURACY, origin) == 0.0
    empty_adapters = points_of([(0.5, 0)])
    assert hypervolume(empty_adapters, ACCURACY, reference(empty_adapters, ACCURACY, None)) == 0.5


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({}, "one quality figure and one size, got {}"),
        ({"accuracy": "maximize"}, "one quality figure and one size"),
        ({"accuracy": "maximize", "loss": "minimize"}, "one quality figure and one size"),
        ({"max_rank": "minimize", "adapter_params": "minimize"}, "one quality figure and one size"),
        ({"accuracy": "maximize", "adapter_params": "maximize"}, "'adapter_params': 'maximize' is not minimize"),
        ({"accuracy": "up", "adapter_params": "minimize"}, "'accuracy': 'up' is not maximize or minimize"),
    ],
)
def test_objectives_that_make_no_axes_are_refused(objectives, message):
    with pytest.raises(ObjectivesError, match=message):
        Objectives.parse(objectives)


def test_objectives_in_either_order():
    assert Objectives.parse({"adapter_params": "minimize", "accuracy": "maximize"}) == ACCURACY
    assert ACCURACY.as_dict() == {"accuracy": "maximize", "adapter_params": "minimize"}
