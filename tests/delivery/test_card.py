"""What a card says of the data: which they were, and how a model is asked that has no template's columns to fill in."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.card import card
from prunedlora.delivery.form import Form
from prunedlora.delivery.snippet import snippet
from prunedlora.results.record import TrialRecord
from tests.inventions import invented_record, sweep_tree


def record_of(folder: Path, **data: Any) -> TrialRecord:
    tree = sweep_tree(folder)["trial"]
    tree["data"] = {"task": "generation", "num_validation": 8, "num_test": 8} | data
    tree["evaluation"] = {"metric": "loss"}
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    return invented_record("a", TrialConfig.model_validate(tree).model_dump(mode="json"))


def test_all_sources_of_the_figures_split_are_named(tmp_path: Path) -> None:
    train = [{"name": name, "format": "messages"} for name in ("some/chats", "more/chats", "some/chats")]
    record = record_of(tmp_path, train=train)
    text = card(record, record.candidates[0], {}, Form())
    assert "name: some/chats + more/chats" in text
    figure = record.candidates[0].figures["loss"]
    record = record_of(tmp_path, train=train, test={"name": "other/chats"}, num_test=None)
    assert "name: other/chats" in card(record, record.candidates[0], {"loss": figure}, Form())


@pytest.mark.parametrize("name", ["text", "prompt_completion", "input_output"])
def test_rows_without_a_template_are_asked_by_their_own_text(name: str, tmp_path: Path) -> None:
    record = record_of(tmp_path, train={"name": "some/texts", "format": name})
    code = snippet(record, TrialConfig.model_validate(record.config), "AutoModelForCausalLM", merged=False)
    assert "inputs = tokenizer('…', return_tensors=\"pt\")  # what the model is to go on from" in code
    compile(code, "card", "exec")
