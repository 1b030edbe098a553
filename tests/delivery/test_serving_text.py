"""What card and certificate say of servers: which form, which command, which request, for adapters of every kind."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.card import card
from prunedlora.delivery.certificate import certificate
from prunedlora.delivery.form import Form
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.known import SERVERS
from tests.inventions import invented_record, sweep_tree

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
WIDTHS = {
    f"model.layers.{block}.{part}.{name}": (64, 64)
    for block in (0, 1)
    for part, names in (("self_attn", ATTENTION), ("mlp", MLP))
    for name in names
}
UNEQUAL = {f"model.layers.{block}.self_attn.q_proj": rank for block, rank in ((0, 16), (1, 2))} | {
    "model.layers.0.self_attn.v_proj": 4,
    "model.layers.1.self_attn.v_proj": 0,
}
EQUAL = {f"model.layers.{block}.self_attn.{name}_proj": 16 for block in (0, 1) for name in "qv"}
PROMPT = {"name": "some/data", "prompt": "It's {question} {{x}}\nA:", "target": "{answer}"}
CHATS = {"name": "some/chats", "format": "messages", "system": "Don't shout."}
GENERATED = {"metric": "exact_match", "max_new_tokens": 20, "stop": ["\nQ"]}


def made(folder: Path, ranks: dict[str, int], **changes: Any) -> tuple[TrialRecord, Candidate]:
    """A record of a model of type llama, and its candidate. `changes`: of sections of the trial, or of facts."""
    tree = sweep_tree(folder)["trial"]
    tree["data"] = {"task": "generation", "train": PROMPT, "num_validation": 8, "num_test": 8}
    tree["evaluation"] = GENERATED
    facts = {"model_type": "llama", "dtype": "float32", "ends": {"</s>": 2}} | changes.pop("model_facts", {})
    data_facts, head = changes.pop("data_facts", {}), changes.pop("head_params", 0)
    for section, change in changes.items():
        tree[section] = tree.get(section, {}) | change
    record = invented_record("a", TrialConfig.model_validate(tree).model_dump(mode="json"))
    environment = record.environment.model_copy(update={"model": facts, "data": data_facts})
    candidate = record.candidates[0].model_copy(
        update={"ranks": ranks, "max_rank": max(ranks.values()), "head_params": head}
    )
    record = record.model_copy(update={"environment": environment, "layer_widths": WIDTHS, "candidates": (candidate,)})
    return record, candidate


def chat(template: str = TEMPLATE) -> dict[str, Any]:
    return {"begins_with": "<s>", "chat": {"template": template, "ends": {"</s>": 2}}}


CLASSES: dict[str, Any] = {
    "data": {"task": "text_classification", "train": PROMPT | {"target": "{label}"}},
    "evaluation": {"metric": "accuracy", "max_new_tokens": None, "stop": None},
    "model_facts": {"labels": ["a", "b"], "pad_token_id": 0},
    "head_params": 128,
}
OWN = {"data": {"train": CHATS, "chat_template": "own.jinja", "chat_template_kwargs": {"mark": "it's"}}}
CASES: dict[str, tuple[dict[str, int], Form, dict[str, Any], list[str]]] = {
    "chat": (UNEQUAL, Form(), {"data": {"train": CHATS}, "data_facts": chat()}, ["vLLM"]),
    "own template": (EQUAL, Form(), OWN | {"data_facts": chat()}, ["vLLM", "SGLang", "LoRAX", "TGI", "llama.cpp"]),
    "bare prompts": (UNEQUAL, Form(), {"data_facts": {"begins_with": "<s>"}}, ["vLLM"]),
    "classes": (EQUAL, Form(), CLASSES, []),
    "uniform": (UNEQUAL, Form(uniform=16), {}, ["vLLM", "SGLang", "LoRAX", "TGI", "llama.cpp", "TensorRT-LLM"]),
    "slot": (UNEQUAL, Form(slot=32), {}, ["vLLM", "SGLang", "LoRAX", "TGI", "llama.cpp", "TensorRT-LLM"]),
    "gguf": (UNEQUAL, Form(gguf=True), {}, ["llama.cpp", "Ollama"]),
    "merged": (UNEQUAL, Form(merged=True), {}, ["vLLM", "SGLang", "llama.cpp", "Ollama", "LoRAX", "TGI", "MLX"]),
    "quantised base": (UNEQUAL, Form(), {"model": {"quantization": "nf4"}}, ["vLLM"]),
    "gguf base": (UNEQUAL, Form(gguf=True), {"model": {"gguf_file": "a b.gguf"}}, ["llama.cpp", "Ollama"]),
}


def blocks(text: str) -> dict[str, list[str]]:
    """Title of each program → its commands."""
    found = re.findall(r"### ([^\n]+)\n\n```bash\n(.*?)\n```", text, re.DOTALL)
    return {title: [line for line in code.split("\n") if line and line[0] != "#"] for title, code in found}


@pytest.mark.parametrize("hub", [None, "me/my-adapter"])
@pytest.mark.parametrize("case", CASES)
def test_a_card_stands_on_the_hub_and_its_commands_are_a_shells(case: str, hub: str | None, tmp_path: Path) -> None:
    ranks, form, changes, programs = CASES[case]
    record, candidate = made(tmp_path, ranks, **dict(changes))
    text = card(record, candidate, {}, form, hub=hub)
    (tmp_path / "README.md").write_text(text)
    assert ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False).data.base_model == "some/model"
    found = blocks(text)
    assert set(programs) <= set(found)
    assert (not programs) == ("No command is known that serves it" in text)
    script = "\n".join(line for lines in found.values() for line in lines)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for line in script.splitlines():
        words = shlex.split(line)
        if words[0] == "curl":
            body = json.loads(words[words.index("-d") + 1])
            assert words[1].startswith("http://localhost:")
            assert isinstance(body, dict | list)
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    table = {row.split(" | ")[0][2:]: row for row in rows}
    assert {server.title for server in SERVERS.values()} <= set(table)
    assert all(len(line) <= 100 for row in table.values() for cell in row.split(" | ") for line in cell.split("<br>"))
    if hub is not None:
        assert str(tmp_path) not in text
    document = json.loads(json.dumps(certificate(record, candidate, {}, form, hub=hub)))
    assert set(document["servers"]) == set(SERVERS)
    handed = {name: next(iter(forms.values())) for name, forms in document["servers"].items()}
    told = {served["program"] for served in handed.values() if "program" in served}
    assert told <= set(found)
    assert all(shown.get("command", "") in script for shown in handed.values())


def body_of(text: str, program: str) -> tuple[str, dict[str, Any]]:
    """URL and body of the last request in a program's block."""
    words = shlex.split(blocks(text)[program][-1])
    return words[1], json.loads(words[words.index("-d") + 1])


def test_a_conversation_is_asked_as_it_was_measured(tmp_path: Path) -> None:
    record, candidate = made(tmp_path, EQUAL, **dict(OWN), data_facts=chat())
    text = card(record, candidate, {}, Form())
    url, body = body_of(text, "vLLM")
    assert url == "http://localhost:8000/v1/chat/completions"
    assert body == {
        "model": "a-20",
        "messages": [{"role": "system", "content": "Don't shout."}, {"role": "user", "content": "…"}],
        "max_tokens": 20, "temperature": 0, "stop": ["\nQ"], "repetition_penalty": 1, "stop_token_ids": [2],
        "chat_template_kwargs": {"mark": "it's"},
    }  # fmt: skip
    assert body_of(text, "SGLang")[1]["model"] == "base:a-20"
    assert body_of(text, "llama.cpp")[1]["lora"] == [{"id": 0, "scale": 1.0}]
    start = blocks(text)["vLLM"][0]
    assert start == (
        "vllm serve some/model --dtype float32 --enable-lora --max-lora-rank 16 --max-loras 1 "
        "--chat-template chat_template.jinja --lora-modules a-20=."
    )
    (llama,) = [line for line in blocks(text)["llama.cpp"] if line.startswith("llama-server") and "without" not in line]
    assert "--jinja --chat-template-file chat_template.jinja --override-kv tokenizer.ggml.add_bos_token" in llama
    assert "write conversations out by the template and send them to /v1/completions" in text  # LoRAX, TGI
    assert not any(line.startswith("curl") for line in blocks(text)["LoRAX"])
    assert "send them to `/v1/chat/completions`" in text
    assert "The template writes no `<s>`" in text
    request = certificate(record, candidate, {}, Form())["request"]
    assert request["chat_template"]["file"] == "chat_template.jinja"
    assert request["chat_template"]["begins_bare"]
    assert request["sampling"]["temperature"] == 0
    begun, _ = made(tmp_path, EQUAL, data={"train": CHATS}, data_facts=chat("{{ bos_token }}" + TEMPLATE))
    assert "--override-kv" not in card(begun, candidate, {}, Form())


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"begins_with": "<s>"}, "Before them stands `<s>`, which the tokenizer puts there"),
        ({"begins_with": None}, "Nothing stands before them"),
        ({}, "Before them stands what the tokenizer itself puts there"),
    ],
)
def test_a_bare_prompt_does_not_go_to_a_chat_endpoint(facts: dict[str, Any], said: str, tmp_path: Path) -> None:
    record, candidate = made(tmp_path, UNEQUAL, data_facts=facts)
    text = card(record, candidate, {}, Form())
    url, body = body_of(text, "vLLM")
    assert url == "http://localhost:8000/v1/completions"
    assert body["prompt"] == "It's {question} {x}\nA:"
    assert "send them to `/v1/completions`, not to a chat endpoint." in text
    assert said in text
    raw = body_of(card(record, candidate, {}, Form(gguf=True)), "Ollama")[1]
    assert raw["raw"]
    assert raw["options"] == {"temperature": 0, "repeat_penalty": 1, "num_predict": 20, "stop": ["\nQ"]}
    lorax = body_of(card(record, candidate, {}, Form(uniform=16)), "LoRAX")[1]
    assert lorax == {
        "model": "/adapter", "adapter_source": "local", "prompt": body["prompt"], "max_tokens": 20, "stop": ["\nQ"]
    }  # fmt: skip


def test_the_table_says_what_goes_wrong_and_which_form_is_right(tmp_path: Path) -> None:
    record, candidate = made(tmp_path, UNEQUAL)
    text = card(record, candidate, {}, Form())
    assert "| PEFT | right |  |" in text
    assert re.search(r"\| SGLang \| refused: .* \| right with `--uniform`, if it is there at the start .*\|", text)
    wrong = r"wrong: scales 2 of 3 modules, as `\S+1.self_attn.q_proj`, wrongly, up to 8 times(<br>| )too strong"
    assert re.search(rf"\| llama.cpp \(Ollama, LM Studio\) \| {wrong} \| right with `--gguf` \|", text)
    assert re.search(r"\| MLX \| refused: takes merged models alone \| right with `--merge` \|", text)
    servers = certificate(record, candidate, {}, Form())["servers"]
    assert servers["llama.cpp"]["gguf"] == {"verdict": "right", "why": None, "export": "--gguf"}
    assert servers["vllm"]["trained"]["load"][0].startswith("VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve")
    assert json.loads(shlex.split(servers["vllm"]["trained"]["load"][1])[-1]) == {"lora_name": "a-20", "lora_path": "."}
    padded = certificate(record, candidate, {}, Form(uniform=17))["servers"]["lorax"]
    assert {kind: found["verdict"] for kind, found in padded.items()} == {
        "uniform": "wrong", "trained": "refused", "uniform 16": "right", "merged": "right"
    }  # fmt: skip
    assert padded["uniform 16"]["export"] == "--uniform"


def test_on_the_hub_its_name_is_what_is_typed(tmp_path: Path) -> None:
    record, candidate = made(tmp_path, EQUAL, **dict(OWN), data_facts=chat())
    text = card(record, candidate, {}, Form(), hub="me/my-adapter")
    assert "PATH = 'me/my-adapter'" in text
    first, start = blocks(text)["vLLM"][:2]
    assert first == "hf download me/my-adapter --local-dir my-adapter"
    assert "--chat-template my-adapter/chat_template.jinja" in start
    assert start.endswith("--lora-modules a-20=me/my-adapter")
    local, _ = made(tmp_path, EQUAL, model={"name": str(tmp_path)})
    assert str(tmp_path) in card(local, candidate, {}, Form())
    text = card(local, candidate, {}, Form(), hub="me/my-adapter")
    assert str(tmp_path) not in text
    assert f"vllm serve ./{tmp_path.name}" in text


def test_an_adapter_without_a_layer_is_not_served(tmp_path: Path) -> None:
    record, candidate = made(tmp_path, {"layer": 0})
    assert "It has no layer: there is nothing of it to serve." in card(record, candidate, {}, Form())
    assert certificate(record, candidate, {}, Form())["servers"] is None
