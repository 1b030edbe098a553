"""The forms that servers need, beside the recommended adapter and by `prunedlora export --serve-on`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.gguf_adapter import GgufError
from prunedlora.cli import app
from prunedlora.delivery import served_folders
from prunedlora.delivery.form import AS_TRAINED, ExportError, Form
from prunedlora.delivery.served_folders import folders_for, form_for
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import Candidate, Figure, TrialRecord
from prunedlora.results.report.told import told_of
from prunedlora.results.store import Store
from prunedlora.sweep.finish import finish_recommended, is_recommended_left
from tests.decoder_sizes import WIDTHS, candidate_fields
from tests.inventions import invented_record, sweep_tree

RANKS = {"*.q_proj": 4, "0.v_proj": 2, "1.v_proj": 2}


def recorded(ranks: dict[str, int], model_type: str = "llama") -> tuple[TrialRecord, Candidate]:
    record = invented_record("good", sweep_tree(Path("unused"))["trial"])
    figure = Figure(value=0.9, stderr=0.01, num_examples=100)
    fields = candidate_fields(ranks) | {"figures": {"accuracy": figure, "loss": figure}}
    one = record.candidates[0].model_copy(update=fields | {"adapter_path": "adapters/000020"})
    model = record.environment.model_copy(update={"model": {"model_type": model_type}})
    of = record.model_copy(update={"candidates": (one,), "layer_widths": WIDTHS, "environment": model})
    return of, one


@pytest.mark.parametrize(
    ("server", "form"),
    [
        ("peft", AS_TRAINED),
        ("vllm", AS_TRAINED),
        ("sglang", Form(uniform=4)),
        ("lorax", Form(uniform=8)),
        ("llama.cpp", Form(gguf=True)),
    ],
)
def test_the_form_for_a_server(server: str, form: Form) -> None:
    assert form_for(*recorded(RANKS), server) == form


def test_merged_models_of_texts_are_for_mlx_those_of_classes_nobody_has_tried() -> None:
    record, one = recorded(RANKS)
    with pytest.raises(ExportError, match="MLX serves this adapter right in no form: nobody has tried a merged model"):
        form_for(record, one, "mlx")
    config: dict[str, Any] = record.config
    of_texts = record.model_copy(update={"config": config | {"data": config["data"] | {"task": "generation"}}})
    assert form_for(of_texts, one, "mlx") == Form(merged=True)


def test_no_form_and_no_server() -> None:
    with pytest.raises(ExportError, match=r"^vLLM serves this adapter right in no form: its largest slot holds rank 5"):
        form_for(*recorded({"*.q_proj": 600}), "vllm")
    with pytest.raises(ExportError, match="'ollama' is no server that there is a rule for: peft, vllm, "):
        form_for(*recorded(RANKS), "ollama")


def test_one_folder_for_each_form_and_none_for_a_merged_model() -> None:
    every = ["peft", "vllm", "sglang", "llama.cpp", "lorax", "tensorrt-llm", "mlx"]
    assert folders_for(*recorded(RANKS), every) == {
        "gguf": Form(gguf=True),
        "uniform-4": Form(uniform=4),
        "uniform-8": Form(uniform=8),
    }
    assert folders_for(*recorded(RANKS), ["vllm", "mlx"]) == {}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A tested adapter of unequal ranks, of a sweep for SGLang and vLLM."""
    tree = sweep_tree(tmp_path / "store", serve_on=["sglang", "vllm"])
    store = Store(str(tmp_path / "store"))
    store.create_or_open(tree)
    record, one = recorded(RANKS)
    folder = tmp_path / "adapter"
    folder.mkdir()
    state = {}
    for name, rank in one.ranks.items():
        state[f"{KEY_PREFIX}{name}.lora_A.weight"] = torch.ones(rank, WIDTHS[name][0])
        state[f"{KEY_PREFIX}{name}.lora_B.weight"] = torch.ones(WIDTHS[name][1], rank)
    save_file(state, folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps({"exclude_modules": None, "r": 4}))
    figures = {"accuracy": {"value": 0.8, "stderr": None, "num_examples": 7}}
    (folder / "test.json").write_text(json.dumps({"figures": figures, "certificate": {}}))
    store.upload_folder(folder, store.trial_path("good", "adapters/000020"))
    store.write_record(record, driver_epoch=1)
    return store


def test_the_recommended_folder_has_the_forms_of_the_sweeps_servers(store: Store) -> None:
    def test(*_: Any) -> None:
        raise AssertionError("it is tested")

    assert is_recommended_left(summarize(store))
    assert finish_recommended(summarize(store), test) == []
    assert not is_recommended_left(summarize(store))
    folder = Path(store.uri, "recommended")
    beside = {CONFIG_NAME, WEIGHTS_NAME, "README.md", "certificate.json"}
    assert {file.name for file in folder.iterdir()} == beside | {"uniform-4"}
    assert {file.name for file in (folder / "uniform-4").iterdir()} == beside
    trained, padded = load_file(folder / WEIGHTS_NAME), load_file(folder / "uniform-4" / WEIGHTS_NAME)
    assert len(padded) == 2 * 9 > len(trained) == 2 * 5
    for name in trained.keys() & {name for name in trained if name.endswith("lora_A.weight")}:
        other = name.replace("lora_A", "lora_B")
        assert torch.equal(trained[other] @ trained[name], padded[other] @ padded[name])
    assert json.loads((folder / "uniform-4" / "certificate.json").read_text())["form"]["uniform"] == 4
    told = told_of(summarize(store), "good@20")
    assert told is not None
    sentence = (
        "Sizes are as vLLM and SGLang need them: of this adapter a PEFT folder of the trained ranks for vLLM; a PEFT "
        "folder of one rank for SGLang; 240 parameters (480 as served)."
    )
    assert sentence in told.sentences
    assert told.document["serve_on"] == ["vllm", "sglang"]


def test_other_servers_are_a_reason_to_export_again(store: Store) -> None:
    finish_recommended(summarize(store), lambda *_: None)
    sweep = store.read_sweep()
    store.write_sweep(sweep | {"serve_on": ["vllm"]})
    assert is_recommended_left(summarize(store))
    assert finish_recommended(summarize(store), lambda *_: None) == []
    assert not Path(store.uri, "recommended", "uniform-4").exists()
    assert not is_recommended_left(summarize(store))


def test_a_form_that_cannot_be_made_is_told_and_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise GgufError("no package gguf")

    store.write_sweep(store.read_sweep() | {"serve_on": ["llama.cpp", "lorax"]})
    monkeypatch.setattr(served_folders, "base_config", refuse)
    problem = "the recommended adapter has no folder gguf: no package gguf"
    assert finish_recommended(summarize(store), lambda *_: None) == [problem]
    exported = store.read_exported()
    assert exported is not None
    assert exported.not_made == (problem,)
    assert {path.name for path in Path(store.uri, "recommended").iterdir() if path.is_dir()} == {"uniform-8"}
    assert not is_recommended_left(summarize(store))


def test_export_refuses_a_second_form_and_a_server_that_serves_it_in_none(store: Store, tmp_path: Path) -> None:
    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["export", store.uri, "good", "--to", str(tmp_path / "a"), *arguments])
        assert result.exit_code == 2
        return " ".join(result.output.replace("│", " ").split())

    assert "--serve-on chooses the form: leave it out, or --merge" in told("--serve-on", "vllm", "--uniform")
    assert "'x' is no server that there is a rule for: peft, vllm" in told("--serve-on", "x", "--no-check")
    result = CliRunner().invoke(
        app, ["export", store.uri, "good", "--to", str(tmp_path / "b"), "--serve-on", "sglang", "--no-check"]
    )
    assert result.exit_code == 0, result.output
    assert len(load_file(tmp_path / "b" / WEIGHTS_NAME)) == 18
