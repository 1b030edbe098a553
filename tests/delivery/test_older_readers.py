"""A merged model's configuration has what older readers look for, and says the same to transformers as before."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, BertConfig, Gemma3TextConfig, LlamaConfig, PreTrainedConfig, StableLmConfig

from prunedlora.delivery.older_readers import write_older_keys

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
PLAIN = {"rope_type": "default", "rope_theta": 100000.0}


@pytest.mark.parametrize(
    ("config", "added"),
    [
        (LlamaConfig(rope_parameters=PLAIN), {"rope_theta": 100000.0}),
        (
            LlamaConfig(rope_parameters=LLAMA3),
            {"rope_theta": 500000.0, "rope_scaling": {n: v for n, v in LLAMA3.items() if n != "rope_theta"}},
        ),
        (
            StableLmConfig(rope_parameters=PLAIN | {"partial_rotary_factor": 0.25}),
            {"rope_theta": 100000.0, "partial_rotary_factor": 0.25},
        ),
        (Gemma3TextConfig(), {}),  # one rotary embedding per type of layer
        (BertConfig(), {}),
    ],
    ids=["theta", "scaled", "partial", "by type of layer", "none"],
)
def test_adds_keys_that_change_nothing_for_transformers(
    config: PreTrainedConfig, added: dict[str, Any], tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    before, read = json.loads((tmp_path / "config.json").read_text()), AutoConfig.from_pretrained(tmp_path).to_dict()
    write_older_keys(tmp_path)
    after = json.loads((tmp_path / "config.json").read_text())
    assert {name: value for name, value in after.items() if name not in before} == added
    assert {name: after[name] for name in before} == before
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == read
