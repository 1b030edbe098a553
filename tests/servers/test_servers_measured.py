"""Rules against the servers themselves, on SmolLM2-135M in float32: figures of `jobs/benchmark.py served-logits`."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Verdict, verdict

FILE = Path(__file__).parents[2] / "jobs" / "results" / "servers.json"
FIGURES: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
CASES = [
    (server, Kind(form))
    for server, measured in FIGURES.items()
    for form in measured["forms"]
    if form in set(Kind)  # MLX's own format is none of them
]


@pytest.mark.parametrize(("server", "kind"), CASES)
def test_the_logits_change_as_the_rule_says(server: str, kind: Kind) -> None:
    """To a thousandth, with PEFT's change, where the rule says `right`."""
    ranks: dict[str, int] = FIGURES[server]["ranks"]
    assert len(set(ranks.values())) > 1
    form = dict.fromkeys(ranks, max(ranks.values())) if kind == Kind.UNIFORM else ranks
    shape = AdapterShape(kind, form, None, model_type="llama")
    assert verdict(SERVERS[server].treat(shape)) == Verdict.RIGHT
    for prompt, found in FIGURES[server]["forms"][kind].items():
        assert found["apart"] < 1e-3, prompt
        assert found["change"] > 0.4, prompt


def test_all_forms_that_a_server_takes_were_measured() -> None:
    assert {(server, kind) for server, kind in CASES} == {
        (server, kind) for server in FIGURES for kind in SERVERS[server].kinds
    }
