"""A search whose sizes are those that servers need: a killed one goes on as one that never was."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.sweep import SweepConfig
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.rebuild import objective_values
from tests.decoder_sizes import WIDTHS, candidate_fields, random_ranks
from tests.inventions import invented_record
from tests.study import test_asker
from tests.study.test_asker import drive

Make = Callable[..., SweepConfig]


def on_a_decoder(key: str, config: dict[str, Any], status: Any = "completed") -> TrialRecord:
    """As `invented_record`, of ranks that are as random as its figures."""
    record = invented_record(key, config, status)
    rng = random.Random(hashlib.sha256(key.encode()).digest())
    fields = candidate_fields(random_ranks(rng))
    candidates = tuple(one.model_copy(update=fields) for one in record.candidates)
    return record.model_copy(update={"candidates": candidates, "layer_widths": WIDTHS})


@pytest.mark.parametrize("telling", ["last", "candidates"])
def test_killed_and_resumed_asks_what_uninterrupted_asks(
    telling: str, make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_asker, "invented_record", on_a_decoder)
    config = make_sweep(sampler="tpe", telling=telling, num_trials=16, serve_on=["sglang", "vllm"])
    whole, broken = Store(str(tmp_path / "whole")), Store(str(tmp_path / "broken"))
    assert drive(config, whole)
    runs = 0
    while not drive(config, broken, most_events=(5, 9, 12)[runs % 3]):
        runs += 1
    assert runs > 2
    assert broken.asks() == whole.asks()
    names = ["adapter_params"]
    sizes = [(objective_values(each, names), objective_values(each, names, ["sglang"])) for each in _ended(whole)]
    assert any(trained != served for trained, served in sizes)
    others = Store(str(tmp_path / "others"))
    assert drive(make_sweep(sampler="tpe", telling=telling, num_trials=16), others)
    assert others.asks() != whole.asks()  # it learns from what it is told


def _ended(store: Store) -> list[TrialRecord]:
    return [record for record in store.records() if record.status == "completed"]
