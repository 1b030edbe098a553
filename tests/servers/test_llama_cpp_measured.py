"""llama.cpp's rule against llama.cpp itself, on SmolLM2-135M in float32: figures of `jobs/benchmark.py llama-cpp`."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunedlora.servers import llama_cpp
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.treatment import Applied, Verdict, verdict

FIGURES: dict[str, Any] = json.loads(Path(__file__).with_name("llama_cpp_logits.json").read_text("utf-8"))
RANKS: dict[str, int] = FIGURES["ranks"]


@pytest.mark.parametrize(
    ("kind", "ranks", "expected"),
    [
        (Kind.TRAINED, RANKS, Verdict.WRONG),
        (Kind.UNIFORM, dict.fromkeys(RANKS, 16), Verdict.RIGHT_IF),  # once it is converted
        (Kind.GGUF, RANKS, Verdict.RIGHT),
    ],
)
def test_the_logits_change_as_the_rule_says(kind: Kind, ranks: dict[str, int], expected: Verdict) -> None:
    """To 1 %: with PEFT's change where it says right, and with that of the update which it says is applied."""
    treatment = llama_cpp.treat(AdapterShape(kind, ranks, None, model_type="llama"))
    assert verdict(treatment) == expected
    assert isinstance(treatment, Applied)
    wrong = {name: 16 / rank for name, rank in RANKS.items()}
    assert treatment.factors == (wrong if kind == Kind.TRAINED else dict.fromkeys(RANKS, 1.0))
    for prompt, found in FIGURES["forms"][kind].items():
        assert found["apart_from_rule"] < 0.01, prompt
        assert (found["apart"] < 0.01) == (expected != Verdict.WRONG), prompt
        assert found["change"] > 0.5, prompt


def test_ranks_differ_and_layers_are_absent() -> None:
    """What makes forms differ is in the adapter that was measured."""
    assert sorted(set(RANKS.values())) == [1, 2, 4, 8, 16]
    assert len(RANKS) == 4 * 30 - 2
    assert len(FIGURES["prompts"]) == 3
