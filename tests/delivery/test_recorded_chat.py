"""An adapter of conversations is handed over with the template that it was trained with; its card's code uses it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_answers import answers_sentence, recorded_answers
from prunedlora.delivery.recorded_base import prompt_batch
from prunedlora.delivery.recorded_chat import TEMPLATE_FILE, chat_sentence, recorded_chat, write_template
from prunedlora.delivery.snippet import snippet
from prunedlora.results.record import RecordError, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.inventions import invented_record
from tests.inventions import sweep_tree as invented_tree
from tests.tiny import WORDS, decoder_tree

ALONE = Workers(0, 1, torch.device("cpu"))
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' says' + mark + ' ' + message['content'] + '<turn>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant says' + mark + ' ' }}{% endif %}"
)
SYSTEM = "Be brief."
READ = f"system says: {SYSTEM}<turn>user says: …<turn>assistant says: "


def chat_tree(folder: Path) -> dict[str, Any]:
    """A sweep on a file of conversations with one answer to all, soon learnt; its template is one of its own, whose
    turns end in a token that is not the tokenizer's end of text. The model has an end of its own, and forbids what the
    prompt has, as their ends."""
    tree = decoder_tree(folder, folder / "store", metric="exact_match", max_new_tokens=12)
    tokenizer = AutoTokenizer.from_pretrained(folder / "decoder")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<over>"]})
    tokenizer.save_pretrained(folder / "decoder")
    model = AutoModelForCausalLM.from_pretrained(folder / "decoder")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ends = tokenizer.convert_tokens_to_ids(["<end>", "<over>"])
    model.generation_config = GenerationConfig(eos_token_id=ends, repetition_penalty=50.0)
    model.save_pretrained(folder / "decoder")
    turns = [[("user", f"{word} {number}"), ("assistant", "stone")] for number, word in enumerate(WORDS * 8)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in turns]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own.jinja").write_text(TEMPLATE)
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    tree["trial"]["data"] |= {
        "train": {"name": str(folder / "chats.jsonl"), "system": SYSTEM},
        "chat_template": str(folder / "own.jinja"),
        "chat_template_kwargs": {"mark": ":"},
    }
    tree["trial"]["training"]["num_steps"] = 30
    tree["trial"]["evaluation"]["milestones"] = []
    return tree


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, TrialRecord]:
    """A store with one trial, and its record. The template's file is another one by now."""
    folder = tmp_path_factory.mktemp("chat")
    tree = chat_tree(folder)
    store = Store(tree["storage"])
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    execute_trial(
        trial, key, store=store, assets=AssetCache(ALONE.device), workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    (folder / "own.jinja").write_text("another")
    record = store.read_record(key)
    assert record is not None
    return store, record


def expected_answer(record: TrialRecord, adapter: Path) -> str:
    """By hand: prompt, answer, and its end, which the adapter has learnt; by the base's own generation config it would
    be another."""
    base = record.config["model"]["name"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    ids, turn = tokenizer(READ, return_tensors="pt")["input_ids"], tokenizer.convert_tokens_to_ids("<turn>")
    own = model.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :].tolist()
    written: list[int] = []
    while turn not in written:
        written.append(int(model(torch.tensor([[*ids[0].tolist(), *written]])).logits[0, -1].argmax()))
    assert own[: len(written)] != written
    return str(tokenizer.decode(written[:-1]))


@pytest.mark.parametrize("form", [Form(), Form(merged=True)], ids=["plain", "merged"])
def test_the_cards_code_answers_a_message_and_ends_its_turn(
    form: Form,
    trained: tuple[Store, TrialRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands, in names of its own; test_snippet.py runs one in a process of its own."""
    store, record = trained
    export_candidate(store, record.key, tmp_path / "a", check=False, form=form)
    export_candidate(store, record.key, tmp_path / "plain", check=False)
    expected = expected_answer(record, tmp_path / "plain")
    code = (tmp_path / "a" / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "a")
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out == expected + "\n"
    ends = record.environment.model["ends"]
    assert int(names["output"][0, -1]) == ends["<turn>"]  # and no further
    if form.merged:  # a server needs nothing but the folder
        assert AutoTokenizer.from_pretrained(tmp_path / "a").chat_template == TEMPLATE
        settings = json.loads((tmp_path / "a" / "generation_config.json").read_text())
        assert settings["eos_token_id"] == sorted(ends.values())
        assert settings.get("max_new_tokens") is None  # of all answers of a server
        config = json.loads((tmp_path / "a" / "config.json").read_text())
        assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]  # as older readers look for it


def test_the_folder_has_the_template_on_record_and_the_card_says_how_to_serve_it(
    trained: tuple[Store, TrialRecord], tmp_path: Path
) -> None:
    store, record = trained
    facts = export_candidate(store, record.key, tmp_path / "a", check=True)
    assert facts["max_logit_difference_merged"] < 1e-3
    assert (tmp_path / "a" / TEMPLATE_FILE).read_text("utf-8") == TEMPLATE
    names = {file.name for file in (tmp_path / "a").iterdir()}
    assert not any(name.startswith("tokenizer") for name in names)
    card = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert f"`--chat-template {TEMPLATE_FILE}` (vLLM, SGLang), `--jinja --chat-template-file {TEMPLATE_FILE}`" in card
    assert "Trained with `chat_template_kwargs` {'mark': ':'}: send it with every request." in card
    ends = record.environment.model["ends"]
    assert set(ends) == {"<end>", "<turn>", "<over>"}
    assert f"An answer ends with `<end>` (0), `<turn>` ({ends['<turn>']}), `<over>` ({ends['<over>']})" in card
    assert f"give `stop_token_ids` {sorted(ends.values())} (vLLM, SGLang)." in card
    assert "send `temperature` 0, `repetition_penalty` 1 for the same." in card
    certificate = json.loads((tmp_path / "a" / "certificate.json").read_text())
    assert certificate["chat"]["template"] == TEMPLATE


def test_the_cards_code_cuts_an_answer_where_the_evaluation_does(
    trained: tuple[Store, TrialRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At the first of its stop texts, which may lie in one another."""
    store, record = trained
    export_candidate(store, record.key, tmp_path / "a", check=False)
    whole = expected_answer(record, tmp_path / "a")
    assert len(whole) >= 3
    stop = [whole[2:], whole[1:3], "none"]
    evaluation = record.config["evaluation"] | {"stop": stop}
    config = TrialConfig.model_validate(record.config | {"evaluation": evaluation})
    record = record.model_copy(update={"config": config.model_dump(mode="json")})
    monkeypatch.chdir(tmp_path / "a")
    capsys.readouterr()
    exec(compile(snippet(record, config, "AutoModelForCausalLM", merged=False), "card", "exec"), {})
    assert capsys.readouterr().out == whole[0] + "\n"
    assert f"`repetition_penalty` 1, `stop` {stop} for the same" in answers_sentence(record, Form())


def test_the_prompts_of_a_check_are_what_the_model_reads(trained: tuple[Store, TrialRecord]) -> None:
    """By the template on record, whatever its file has become."""
    _, record = trained
    batch, tokenizer = prompt_batch(record, ALONE.device), AutoTokenizer.from_pretrained(record.config["model"]["name"])
    first = tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0].bool()])
    assert re.fullmatch(rf"system says: {SYSTEM}<turn>user says: \w+ \d+<turn>assistant says: ", first)


def test_a_tokenizers_own_template_stays_with_the_base(trained: tuple[Store, TrialRecord], tmp_path: Path) -> None:
    _, record = trained
    data = {**record.config["data"], "chat_template": "tokenizer"}
    record = record.model_copy(update={"config": {**record.config, "data": data}})
    chat = recorded_chat(record)
    assert chat is not None
    assert not chat.is_own
    write_template(record, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert chat_sentence(record, Form()).startswith("The chat template is that of the base model's tokenizer. Trained")


def test_facts_that_are_none_are_refused(tmp_path: Path) -> None:
    record = invented_record("a", invented_tree(tmp_path)["trial"])
    assert recorded_chat(record) is None
    environment = record.environment.model_copy(
        update={"data": {"chat": {"template": "x"}}, "model": {"ends": {"x": "1"}}}
    )
    record = record.model_copy(update={"environment": environment})
    with pytest.raises(RecordError, match=r"trial a: environment\.data\.chat: 1 validation error for _Facts\nends"):
        recorded_chat(record)
    data = record.config["data"] | {"task": "generation"}
    record = record.model_copy(update={"config": record.config | {"data": data, "evaluation": {"metric": "loss"}}})
    with pytest.raises(RecordError, match=r"trial a: environment\.model\.ends: 1 validation error"):
        recorded_answers(record)
