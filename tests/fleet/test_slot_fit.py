"""What Ray Train starts beside the workers of a slot, without a Ray; and what a slot that measures tells of itself."""

import subprocess
import sys

import pytest

from prunedlora.fleet import slot_fit
from prunedlora.fleet.slot_fit import CLEANER, SlotTrainer


@pytest.mark.parametrize("has_dashboard", [True, False])
def test_without_a_dashboard_nothing_waits_for_its_server(has_dashboard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_fit, "has_dashboard", lambda: has_dashboard)
    trainer = SlotTrainer(lambda: None)
    names = {type(each).__name__ for each in trainer._create_default_callbacks()}
    assert (CLEANER in names) == has_dashboard
    assert "BackendSetupCallback" in names


def test_the_actor_that_hears_the_speeds_starts_without_torch() -> None:
    code = "import sys, prunedlora.fleet.speed_talk; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
