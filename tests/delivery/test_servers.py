"""What the card says of a loader is what the loader's rule does."""

from pathlib import Path

import pytest
import torch

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.export import export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.repack import make_uniform
from prunedlora.adapters.size import served_layers
from prunedlora.delivery.form import Form
from prunedlora.delivery.servers import RIGHT, servers, servers_sentence
from prunedlora.results.record import Candidate, TrialRecord
from tests.adapters.conftest import llama
from tests.adapters.loader_rules import LOADERS, Updates, is_right
from tests.adapters.test_export import train
from tests.inventions import invented_record, sweep_tree

ADAPTERS = {
    "equal": [4],
    "a type absent in one block": [4] * 13 + [0],
    "part of what is fused absent": [4] * 7 + [4, 0, 4, 4, 4, 4, 4],
    "unequal": [3, 1, 4, 2],
    "unequal with absent ones": [3, 1, 0, 2, 4, 0, 1, 0, 4],
}


def made(ranks: list[int], folder: Path) -> tuple[TrialRecord, Candidate, Updates]:
    """A record and its candidate, whose adapter is in `folder`, and the update of every layer."""
    settings = AdapterSettings(
        initial_rank=4, alpha=4.0, use_rslora=False, dropout=0.0, target_modules="all-linear",
        layers_to_transform=None, head_modules=[],
    )  # fmt: skip
    model = attach(llama().double(), settings, "default", 0)
    train(model, ranks)
    export(model, "default", folder, "some/base")
    layers = adapted_layers(model, "default")
    served = served_layers(model)
    assert served is not None
    record = invented_record("a", sweep_tree(folder)["trial"]).model_copy(update={"layer_widths": served.linear})
    found = {layer.name: layer.rank for layer in layers}
    candidate = record.candidates[0].model_copy(update={"ranks": found, "max_rank": max(found.values())})
    updates = {layer.name: layer.scaling * (layer.B @ layer.A).detach() for layer in layers if layer.rank}
    return record, candidate, updates


@pytest.mark.parametrize("rank", [None, 4, 16])
@pytest.mark.parametrize("ranks", ADAPTERS.values(), ids=list(ADAPTERS))
def test_each_loader_is_right_where_the_card_says_so(ranks: list[int], rank: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    record, candidate, updates = made(ranks, tmp_path / "a")
    if rank is not None:
        assert record.layer_widths is not None
        make_uniform(tmp_path / "a", rank, record.layer_widths)
    found = servers(record, candidate, Form(uniform=rank), [])
    assert {name: found[name] == RIGHT for name in LOADERS} == {
        name: is_right(name, tmp_path / "a", updates, num_blocks=2) for name in LOADERS
    }
    if rank == 16:
        assert [name for name, verdict in found.items() if verdict != RIGHT] == ["MLX"]


def test_the_sentence_names_the_form_that_serves_the_others(tmp_path: Path) -> None:
    record, candidate, _ = made(ADAPTERS["unequal"], tmp_path / "a")
    text = servers_sentence(servers(record, candidate, Form(), []), Form())
    assert "as it was trained by PEFT, vLLM, TensorRT-LLM." in text
    assert "SGLang (refuses unequal ranks); llama.cpp (Ollama, LM Studio) (loads it and scales it wrongly)" in text
    assert "For these `prunedlora export --uniform`" in text
    padded = Form(slot=16)
    text = servers_sentence(servers(record, candidate, padded, []), padded)
    assert text.endswith("LoRAX, TGI. Not by MLX (takes merged models).")


def test_a_head_and_a_record_without_shapes_are_not_promised_to_serve(tmp_path: Path) -> None:
    record, candidate, _ = made(ADAPTERS["equal"], tmp_path / "a")
    headed = servers(record, candidate.model_copy(update={"head_params": 3}), Form(), ["modules_to_save"])
    assert [name for name, verdict in headed.items() if verdict == RIGHT] == ["PEFT"]
    older = servers(record.model_copy(update={"layer_widths": None}), candidate, Form(), [])
    assert [name for name, verdict in older.items() if verdict == "not known"] == [
        "TensorRT-LLM",
        "SGLang",
        "LoRAX, TGI",
    ]


def test_what_is_not_known_is_not_called_wrong(tmp_path: Path) -> None:
    record, candidate, _ = made(ADAPTERS["equal"], tmp_path / "a")
    headed = candidate.model_copy(update={"head_params": 3})
    text = servers_sentence(servers(record, headed, Form(), ["modules_to_save"]), Form())
    assert text == (
        "It is applied as it was trained by PEFT. Not by vLLM (refuses it: modules_to_save); SGLang (takes no head); "
        "llama.cpp (Ollama, LM Studio) (takes no head); MLX (takes merged models). "
        "Not known of TensorRT-LLM; LoRAX, TGI."
    )
