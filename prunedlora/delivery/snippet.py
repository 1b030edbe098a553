"""Python that loads an exported adapter, or a merged model, and uses it: it runs as it stands, in the folder itself."""

from pprint import pformat
from typing import Any

from prunedlora.config.trial import TrialConfig
from prunedlora.delivery.base_words import PACKAGE, base_expression
from prunedlora.delivery.class_names import recorded_labels
from prunedlora.delivery.recorded_answers import RecordedAnswers, recorded_answers
from prunedlora.delivery.recorded_chat import TEMPLATE_FILE, RecordedChat, recorded_chat
from prunedlora.delivery.recorded_request import MOST_TOKENS, example_text
from prunedlora.results.record import TrialRecord


def snippet(record: TrialRecord, config: TrialConfig, auto_model: str, *, merged: bool, hub: str | None = None) -> str:
    """Loads the base as it was trained on, the adapter on it, and the tokenizer, and lets the model answer a prompt, or
    a message where it was trained on conversations, as answers were measured. `hub`: OWNER/NAME of the Hub that it is
    loaded from; None: this folder."""
    labels, chat, model = recorded_labels(record), recorded_chat(record), config.model
    answers = recorded_answers(record)
    own_template = not merged and chat is not None and chat.is_own
    source: dict[str, Any] = {}
    if not merged:
        source = {"revision": model.revision, "gguf_file": model.gguf_file}
        source |= {"trust_remote_code": True} if model.trust_remote_code else {}
        source = {name: repr(value) for name, value in source.items() if value is not None}
    imports, names = [], [auto_model, "AutoTokenizer"]
    if answers is not None and not merged:  # whose own file says it
        names.append("GenerationConfig")
    lines = ['PATH = "."  # this folder, or its name on the Hub' if hub is None else f"PATH = {hub!r}"]
    if not merged:
        if model.name.startswith(PACKAGE):
            imports = ["from importlib.util import find_spec", "from pathlib import Path", ""]
        elif own_template:
            imports = ["from pathlib import Path", ""]
        imports.append("from peft import PeftModel")
        lines.append(f"BASE = {base_expression(model.name, hub)}")
    if labels is not None:
        lines.append(f"id2label = dict(enumerate({pformat(list(labels), width=100, compact=True)}))")
    imports.append(f"from transformers import {', '.join(names)}")
    if own_template:
        imports.append("from transformers.utils import cached_file")
    if merged:
        lines += ["", f"model = {auto_model}.from_pretrained(PATH)", "tokenizer = AutoTokenizer.from_pretrained(PATH)"]
    else:
        settings = source | _base_settings(record, config)
        given = "".join(f", {name}={value}" for name, value in source.items())
        lines += [
            "",
            f"base = {auto_model}.from_pretrained({_arguments(settings)})",
            "model = PeftModel.from_pretrained(base, PATH)",
            f"tokenizer = AutoTokenizer.from_pretrained(BASE{given})",
        ]
    if own_template:
        lines.append(f'tokenizer.chat_template = Path(cached_file(PATH, "{TEMPLATE_FILE}")).read_text("utf-8")')
    if answers is not None and not merged:
        ends = answers.end_ids or "base.generation_config.eos_token_id"
        lines += [
            "base.generation_config = GenerationConfig(  # as measured: without the base's own penalties",
            f"    do_sample=False, eos_token_id={ends}, pad_token_id=tokenizer.pad_token_id",
            ")",
        ]
    return "\n".join([*imports, "", *lines, "", *_use(config, chat, answers)])


def _base_settings(record: TrialRecord, config: TrialConfig) -> dict[str, str]:
    """What `from_pretrained` is given beside the place, as Python: type, head and configuration as in training."""
    facts, settings = record.environment.model, {}
    if config.model.quantization is None and facts.get("dtype") is not None:
        settings["dtype"] = repr(facts["dtype"])
    labels = recorded_labels(record)
    if labels is not None:
        settings |= {"num_labels": str(len(labels)), "id2label": "id2label"}
        settings["label2id"] = "{label: number for number, label in id2label.items()}"
        settings["pad_token_id"] = repr(facts.get("pad_token_id"))
    return settings | {name: repr(value) for name, value in config.model.config_overrides.items()}


def _arguments(settings: dict[str, str]) -> str:
    return "".join(["\n    BASE,", *(f"\n    {name}={value}," for name, value in settings.items()), "\n"])


def _use(config: TrialConfig, chat: RecordedChat | None, answers: RecordedAnswers | None) -> list[str]:
    source = config.data.sources("train")[0]
    text = example_text(source)
    note = "as trained: fill in the columns" if source.is_template else "what the model is to go on from"
    prompt = [f'inputs = tokenizer({text!r}, return_tensors="pt")  # {note}']
    if answers is None:
        return [*prompt, "print(id2label[int(model(**inputs).logits.argmax())])"]
    if chat is not None:
        messages = [] if source.system is None else [{"role": "system", "content": source.system}]
        messages.append({"role": "user", "content": text})
        options = "".join(f", {name}={value!r}" for name, value in chat.options.items())
        how = f'add_generation_prompt=True, return_dict=True, return_tensors="pt"{options}'
        prompt = [
            f"messages = {pformat(messages, width=100, sort_dicts=False)}",
            f"inputs = tokenizer.apply_chat_template(messages, {how})",
        ]
    written, cut = "written", []
    if chat is not None:  # whose ends need not be special tokens
        written = f"[token for token in written if token not in {sorted(chat.ends.values())}]"
    if answers.stop:
        cut = [
            f"cuts = [answer.find(text) for text in {list(answers.stop)} if text in answer]",
            "answer = answer[: min(cuts, default=len(answer))]",
        ]
    return [
        *prompt,
        f"output = model.generate(**inputs, max_new_tokens={answers.max_new_tokens or MOST_TOKENS})",
        'written = output[0, inputs["input_ids"].shape[1] :].tolist()',
        f"answer = tokenizer.decode({written}, skip_special_tokens=True)",
        *cut,
        "print(answer)",
    ]
