"""A search whose sizes are those that servers need: a killed one goes on as one that never was."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import trial_with
from prunedlora.results.ask import Ask
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.kept_study import KeptStudy
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
def test_a_study_that_lives_on_asks_what_a_rebuilt_one_does(telling: Any, make_sweep: Make) -> None:
    """And others than one that is told of sizes as trained."""
    config = make_sweep(sampler="tpe")
    given: Any = (config.space, config.objectives, "tpe", 3)
    kept, trained = (KeptStudy(*given, telling=telling, serve_on=servers) for servers in (["sglang", "vllm"], []))
    asks: list[Ask] = []
    told: dict[int, TrialRecord] = {}
    differs = 0
    for number in range(17):
        values, part = kept.propose(asks, told, num_concurrent=2)
        if number > 14:
            again = KeptStudy(*given, telling=telling, serve_on=["sglang", "vllm"])
            assert again.propose(asks, told, num_concurrent=2) == (values, part)
            differs += trained.propose(asks, told, num_concurrent=2)[0] != values
        asks.append(Ask(number=number, key=f"k{number}", kind="search", **part))
        tree = trial_with(config.trial, values).model_dump(mode="json")
        told[number] = on_a_decoder(f"k{number}", tree)
    assert differs
    sizes = [
        objective_values(each, ["adapter_params"], servers) for each in told.values() for servers in ([], ["sglang"])
    ]
    assert sizes[::2] != sizes[1::2]


@pytest.mark.slow
def test_killed_and_resumed_asks_what_uninterrupted_asks(
    make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_asker, "invented_record", on_a_decoder)
    config = make_sweep(sampler="tpe", telling="candidates", num_trials=13, serve_on=["sglang", "vllm"])
    whole, broken = Store(str(tmp_path / "whole")), Store(str(tmp_path / "broken"))
    assert drive(config, whole)
    runs = 0
    while not drive(config, broken, most_events=(7, 12)[runs % 2]):
        runs += 1
    assert runs > 1
    assert broken.asks() == whole.asks()
