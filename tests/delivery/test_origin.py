"""What a card and a certificate say of the adapter that a shrunk one was made of."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.card import card
from prunedlora.delivery.certificate import certificate
from prunedlora.delivery.form import Form
from prunedlora.results.record import Candidate, Cut, Figure, TrialRecord
from tests.inventions import invented_record, sweep_tree

FACTS = {"start_from": "some/adapter", "revision": "c" * 40, "sha256": "a" * 64, "config_sha256": "b" * 64}
CUT = Cut(basis="svd", allocation="uniform", unit="mean_rank", size=2)
CALLED = f"the adapter `some/adapter`, revision {'c' * 40}, sha256 {'a' * 64}"


def shrunk(folder: Path) -> TrialRecord:
    """An original of 800 parameters, a cut of it, and an adapter trained on from it with a cut of that."""
    config = TrialConfig.model_validate(sweep_tree(folder)["trial"]).model_dump(mode="json")
    record = invented_record("a", config)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))

    def made(accuracy: float, params: int, step: int, cut: Cut | None = None) -> Candidate:
        figures = {"accuracy": Figure(value=accuracy, stderr=0.01, num_examples=8)}
        changes: dict[str, Any] = {"step": step, "cut": cut, "adapter_params": params, "figures": figures}
        return record.candidates[0].model_copy(update=changes)

    candidates = made(0.9, 800, 0), made(0.85, 100, 0, CUT), made(0.92, 400, 20), made(0.88, 100, 20, CUT)
    environment = record.environment.model_copy(update={"model": record.environment.model | {"adapter": FACTS}})
    return record.model_copy(update={"candidates": candidates, "environment": environment})


def words(record: TrialRecord, number: int, folder: Path) -> str:
    return " ".join(card(record, record.candidates[number], {}, Form()).split())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, f"It is {CALLED}, as it came."),
        (
            1,
            f"It was shrunk from {CALLED}: cut alone, and not trained on. On the validation "
            "split the original has accuracy 0.900 ± 0.010 with 800 parameters, and this one 0.850 ± 0.010 "
            "with 100, 8 times fewer.",
        ),
        (
            2,
            f"It was shrunk from {CALLED}: trained on for 20 steps. On the validation split the original has accuracy "
            "0.900 ± 0.010 with 800 parameters, and this one 0.920 ± 0.010 with 400, 2 times fewer.",
        ),
        (
            3,
            f"It was shrunk from {CALLED}: trained on for 20 steps, then cut. On",
        ),
    ],
)
def test_a_card_says_of_which_adapter_it_was_made_and_how(number: int, said: str, tmp_path: Path) -> None:
    record = shrunk(tmp_path)
    assert said in words(record, number, tmp_path)
    origin = certificate(record, record.candidates[number], {}, Form())["origin"]
    assert {name: origin[name] for name in FACTS} == FACTS
    assert (origin["steps"], origin["original"]["candidate"]) == (record.candidates[number].step, "a@0")
    assert origin["original"]["adapter_params"] == 800
    assert origin["original"]["figures"]["accuracy"]["value"] == 0.9


def test_what_was_not_trained_says_so(tmp_path: Path) -> None:
    record = shrunk(tmp_path)
    assert "one training run" in words(record, 2, tmp_path)
    adapter = {"start_from": "some/adapter", "method": "lora"}
    cuts = {"sizes": {"mean_rank": [2]}}
    trial = {"adapter": adapter, "cuts": cuts, "pruning": None, "training": {"num_steps": 0, "batch_size": 4}}
    config = TrialConfig.model_validate(sweep_tree(tmp_path)["trial"] | trial).model_dump(mode="json")
    record = record.model_copy(update={"config": config})
    text = words(record, 1, tmp_path)
    assert "method `lora`: cut without training from the adapter that it began with (`a@0`, 800 parameters)" in text
    assert "one training run" not in text


def test_a_figure_that_one_of_the_two_lacks_is_no_comparison(tmp_path: Path) -> None:
    record = shrunk(tmp_path)
    loss = {"loss": Figure(value=0.5, stderr=0.1, num_examples=8)}
    bare = record.candidates[0].model_copy(update={"figures": loss})
    record = record.model_copy(update={"candidates": (bare, *record.candidates[1:])})
    assert "not trained on. ```python" in words(record, 1, tmp_path)


def test_a_training_whose_adapter_was_not_measured_continues_it(tmp_path: Path) -> None:
    record = shrunk(tmp_path)
    record = record.model_copy(update={"candidates": record.candidates[2:]})
    assert f"Its training continues {CALLED}." in words(record, 0, tmp_path)
    assert certificate(record, record.candidates[0], {}, Form())["origin"]["original"] is None
    ranks = {"rank_pattern_from": "some/adapter", "ranks_sha256": "d" * 64}
    record.environment.model["adapter"] = ranks
    assert "Its layers began with the ranks of the adapter `some/adapter`." in words(record, 0, tmp_path)
    del record.environment.model["adapter"]
    assert certificate(record, record.candidates[0], {}, Form())["origin"] is None
    assert "adapter `some/adapter`" not in words(record, 0, tmp_path)
