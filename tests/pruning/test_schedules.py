import math
import subprocess
import sys

import pytest

from prunedlora.pruning.schedules import Schedule, num_removed, removed_share
from prunedlora.registry import UnknownNameError, lookup, names


@pytest.mark.parametrize("name", names("schedule"))
class TestConformance:
    """What every registered schedule promises."""

    def test_it_knows_whether_it_needs_an_end(self, name):
        schedule = lookup("schedule", name)
        assert isinstance(schedule, Schedule)
        assert isinstance(schedule.needs_end, bool)

    def test_the_share_rises_from_0_to_1(self, name):
        end = 0.8 if lookup("schedule", name).needs_end else None
        shares = [removed_share(name, step / 100, 0.2, end) for step in range(101)]
        assert shares == sorted(shares)
        assert all(share == 0 for share in shares[:20])
        assert all(share == 1 for share in shares[80:])

    @pytest.mark.parametrize("total", [0, 1, 7, 48])
    def test_the_count_ends_exact(self, name, total):
        end = 0.8 if lookup("schedule", name).needs_end else None
        counts = [num_removed(removed_share(name, step / 50, 0.0, end), total) for step in range(51)]
        assert counts == sorted(counts)
        assert counts[-1] == total


@pytest.mark.parametrize(
    ("name", "expected"), [("linear", 0.25), ("cubic", 1 - 0.75**3), ("cosine", (1 - math.cos(math.pi / 4)) / 2)]
)
def test_shapes(name, expected):
    assert removed_share(name, 0.35, 0.2, 0.8) == pytest.approx(expected, abs=1e-12)


def test_one_shot_does_all_at_begin():
    assert [removed_share("one_shot", p, 0.5, None) for p in (0.49, 0.5, 1.0)] == [0.0, 1.0, 1.0]


def test_half_a_component_is_removed():
    assert [num_removed(share, 10) for share in (0.0, 0.04, 0.05, 0.149, 0.15, 1.0)] == [0, 0, 1, 1, 2, 10]


@pytest.mark.parametrize(
    ("name", "begin", "end", "message"),
    [
        ("cubic", 0.2, None, "schedule 'cubic' needs end"),
        ("one_shot", 0.2, 0.5, "end 0.5 has no effect on schedule 'one_shot'; remove it"),
        ("linear", 0.5, 0.5, "begin 0.5 must lie before end 0.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, begin, end, message):
    with pytest.raises(ValueError, match=message):
        removed_share(name, 0.0, begin, end)


def test_an_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown schedule 'square'; known: cosine, cubic, linear, one_shot"):
        removed_share("square", 0.0, 0.1, 0.2)


def test_schedules_import_no_torch():
    code = "import sys, prunedlora.pruning.schedules; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
