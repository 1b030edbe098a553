"""An adapter of conversations is handed over with the template that it was trained with, and its card's code uses it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunedlora.config.identity import trial_key
from prunedlora.config.load import parse_sweep
from prunedlora.delivery.candidate_export import export_candidate
from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_chat import TEMPLATE_FILE, recorded_chat
from prunedlora.results.record import RecordError, TrialRecord
from prunedlora.results.store import Store
from prunedlora.training.distributed import Workers
from prunedlora.training.loop import Verdict
from prunedlora.trial.assets import AssetCache
from prunedlora.trial.execute import execute_trial
from tests.inventions import invented_record
from tests.inventions import sweep_tree as invented_tree
from tests.tiny import decoder_tree

ALONE = Workers(0, 1, torch.device("cpu"))
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' says: ' + message['content'] + '~' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant says' + mark + ' ' }}{% endif %}"
)
SYSTEM = "Be brief."


def with_chat(record: TrialRecord, facts: Any) -> TrialRecord:
    data = {**record.environment.data, "chat": facts}
    return record.model_copy(update={"environment": record.environment.model_copy(update={"data": data})})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, int]:
    """A store whose trial has a template of its own on record, the file of which is another one by now; its key, and the
    id of the token that ends a turn, which is not the tokenizer's end of text."""
    folder = tmp_path_factory.mktemp("chat")
    tree = decoder_tree(folder, folder / "store", metric="exact_match", max_new_tokens=12)
    tree["objectives"] = {"exact_match": "maximize", "adapter_params": "minimize"}
    data = tree["trial"]["data"]
    data |= {"chat_template": str(folder / "own.jinja"), "chat_template_kwargs": {"mark": ":"}}
    data["train"]["system"] = SYSTEM
    tree["trial"]["optimizer"]["learning_rate"] = 1e-3  # so little that it goes on writing
    tree["trial"]["training"]["num_steps"] = 6
    tree["trial"]["evaluation"]["milestones"] = []
    (folder / "own.jinja").write_text(TEMPLATE)
    store = Store(tree["storage"])
    store.create_or_open(tree)
    trial = parse_sweep(tree, "test").trial
    key = trial_key(trial)
    execute_trial(
        trial, key, store=store, assets=AssetCache(ALONE.device), workers=ALONE, epoch=1, max_attempts=2,
        report=lambda _: Verdict.CONTINUE, progress=lambda *_: Verdict.CONTINUE,
    )  # fmt: skip
    record, tokenizer = store.read_record(key), AutoTokenizer.from_pretrained(folder / "decoder")
    assert record is not None
    # One that this adapter does write after its prompt, so that ending there shows.
    model = AutoModelForCausalLM.from_pretrained(folder / "decoder")
    export_candidate(store, key, folder / "probe", check=False)
    prompt = f"system says: {SYSTEM}~user says: {{question}}: ~assistant says: "
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    written = PeftModel.from_pretrained(model, folder / "probe").generate(ids, do_sample=False, max_new_tokens=12)
    turn_end = int(written[0, ids.shape[1] + 1])
    ends = {"<end>": tokenizer.eos_token_id, tokenizer.convert_ids_to_tokens(turn_end): turn_end}
    store.write_record(with_chat(record, {"template": TEMPLATE, "ends": ends}), 1)
    (folder / "own.jinja").write_text("another")
    return store, key, turn_end


def expected_answer(store: Store, key: str, turn_end: int, adapter: Path) -> str:
    """By hand: prompt, answer and its end."""
    record = store.read_record(key)
    assert record is not None
    base = record.config["model"]["name"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    ids = tokenizer(f"system says: {SYSTEM}~user says: {{question}}: ~assistant says: ", return_tensors="pt")
    written = model.generate(**ids, do_sample=False, max_new_tokens=12)[0, ids["input_ids"].shape[1] :].tolist()
    assert turn_end in written[:2]
    return str(tokenizer.decode(written[: written.index(turn_end) + 1], skip_special_tokens=True))


@pytest.mark.parametrize("form", [Form(), Form(merged=True)], ids=["plain", "merged"])
def test_the_cards_code_answers_a_message_and_ends_its_turn(
    form: Form,
    trained: tuple[Store, str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands, in names of its own; test_snippet.py runs one in a process of its own."""
    store, key, turn_end = trained
    export_candidate(store, key, tmp_path / "a", check=False, form=form)
    export_candidate(store, key, tmp_path / "plain", check=False)
    expected = expected_answer(store, key, turn_end, tmp_path / "plain")
    code = (tmp_path / "a" / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "a")
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == expected + "\n"
    if form.merged:  # a server needs nothing but the folder
        assert AutoTokenizer.from_pretrained(tmp_path / "a").chat_template == TEMPLATE
        ends = json.loads((tmp_path / "a" / "generation_config.json").read_text())["eos_token_id"]
        assert turn_end in ends


def test_the_folder_has_the_template_on_record_and_the_card_says_how_to_serve_it(
    trained: tuple[Store, str, int], tmp_path: Path
) -> None:
    store, key, turn_end = trained
    facts = export_candidate(store, key, tmp_path / "a", check=True)
    assert facts["max_logit_difference_merged"] < 1e-3
    assert (tmp_path / "a" / TEMPLATE_FILE).read_text("utf-8") == TEMPLATE
    names = {file.name for file in (tmp_path / "a").iterdir()}
    assert not any(name.startswith("tokenizer") for name in names)
    card = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert f"`--chat-template {TEMPLATE_FILE}` (vLLM, SGLang)" in card
    assert "Trained with `chat_template_kwargs` {'mark': ':'}: send it with every request." in card
    assert f"give `stop_token_ids` {sorted([0, turn_end])}." in card
    certificate = json.loads((tmp_path / "a" / "certificate.json").read_text())
    assert certificate["chat"]["template"] == TEMPLATE


def test_a_tokenizers_own_template_stays_with_the_base(trained: tuple[Store, str, int]) -> None:
    store, key, _ = trained
    record = store.read_record(key)
    assert record is not None
    data = {**record.config["data"], "chat_template": "tokenizer"}
    chat = recorded_chat(record.model_copy(update={"config": {**record.config, "data": data}}))
    assert chat is not None
    assert not chat.is_own


def test_facts_that_are_none_are_refused(tmp_path: Path) -> None:
    record = invented_record("a", invented_tree(tmp_path)["trial"])
    assert recorded_chat(record) is None
    with pytest.raises(RecordError, match=r"trial a: environment\.data\.chat: 1 validation error for _Facts\nends"):
        recorded_chat(with_chat(record, {"template": "x"}))
