import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunedlora.results.analysis.budget import best_to_ship, recommend
from prunedlora.results.analysis.pareto import Objectives, front, points

ACCURACY = Objectives.parse({"accuracy": "maximize", "adapter_params": "minimize"})
LOSS = Objectives.parse({"loss": "minimize", "adapter_params": "minimize"})


@pytest.fixture(scope="module")
def points_of(record, candidate):
    def make(pairs, objectives=ACCURACY, without_file=()):
        changes = [{"adapter_path": None} if i in without_file else {} for i in range(len(pairs))]
        return points([record(f"k{i:02d}", candidate(*pairs[i], **changes[i])) for i in range(len(pairs))], objectives)

    return make


@pytest.mark.parametrize(("within", "size"), [(0.0, 40), (0.009, 40), (0.01, 20), (0.05, 10), (1.0, 10)])
def test_smallest_within(within, size, points_of):
    all_points = points_of([(0.95, 10), (0.98, 20), (0.99, 40), (0.5, 30)])
    assert recommend(all_points, ACCURACY, within).size == size


def test_within_is_one_point_unless_said(points_of):
    assert recommend(points_of([(0.98, 20), (0.99, 40), (0.97, 5)]), ACCURACY).size == 20


def test_a_loss_is_better_when_lower(points_of):
    # Losses .05, .02, .01.
    all_points = points_of([(0.95, 10), (0.98, 20), (0.99, 40)], LOSS)
    assert recommend(all_points, LOSS, 0.0).size == 40
    assert recommend(all_points, LOSS, 0.01).size == 20


def test_never_one_without_a_file(points_of):
    pairs = [(0.9, 0), (0.9, 10), (0.99, 50)]
    assert recommend(points_of(pairs, without_file=[0, 2]), ACCURACY).size == 10
    assert recommend(points_of(pairs, without_file=[0, 1, 2]), ACCURACY) is None
    assert recommend([], ACCURACY) is None


@given(
    pairs=st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.integers(1, 6)), min_size=1, max_size=10),
    within=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_all_points_and_the_front_give_the_same(pairs, within, points_of):
    all_points = points_of(pairs)
    chosen = recommend(all_points, ACCURACY, within)
    best = front(all_points, ACCURACY)
    assert chosen == recommend(best, ACCURACY, within)
    assert chosen in best


def test_a_negative_tolerance_is_refused(points_of):
    with pytest.raises(ValueError, match=r"within must be at least 0, got -0\.1"):
        recommend(points_of([(0.5, 1)]), ACCURACY, -0.1)


def test_of_equals_a_finished_one_stands_for_all_then_one_of_fewer_steps(record, candidate):
    """Steps are numbers, not texts: 6 comes before 12; and no half-trained milestone before either."""
    half = candidate(0.9, 40, 3, progress=0.5)
    found = points([record("a", half, candidate(0.9, 40, 12)), record("b", candidate(0.9, 40, 6))], ACCURACY)
    for one in (recommend(found, ACCURACY), best_to_ship(found, ACCURACY), front(found, ACCURACY)[0]):
        assert one.name == "b@6"
    assert recommend([one for one in found if one.key == "a"], ACCURACY).name == "a@12"
