"""How a trial wrote its conversations out, by its record: the template's text as it was trained, whatever the
configured file holds by now.

A template of the configuration's own goes with the adapter as `chat_template.jinja`, where transformers keeps it beside
a tokenizer. The tokenizer itself, often larger than the adapter, stays with the base model, and loaders of adapters
find no tokenizer where there is none: PEFT, vLLM and SGLang read the adapter's configuration and weights alone.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.results.record import RecordError, TrialRecord

CHAT_FACT = "chat"
"""Among the facts of the data on record, of a task that has written conversations out by a template."""
TEMPLATE_FILE = "chat_template.jinja"


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    template: str
    ends: dict[str, int]


@dataclass(frozen=True)
class RecordedChat:
    """What whoever talks to the adapter needs."""

    template: str
    """The jinja text."""
    is_own: bool
    """Whether it is the configuration's, and not that of the base model's tokenizer."""
    ends: dict[str, int]
    """Token → id: those that end an answer in the data, the tokenizer's end-of-text token among them. They are no part
    of an answer, whether special tokens or not."""
    options: dict[str, Any]
    """What the template is passed besides."""


def recorded_chat(record: TrialRecord) -> RecordedChat | None:
    """None for a trial without a chat template. Raises RecordError for facts that are none."""
    found = record.environment.data.get(CHAT_FACT)
    if found is None:
        return None
    try:
        facts = _Facts.model_validate(found)
    except ValidationError as error:
        raise RecordError(f"the record of trial {record.key}: environment.data.{CHAT_FACT}: {error}") from error
    data = recorded_trial(record).data
    is_own = data.chat_template not in (None, "tokenizer")
    return RecordedChat(facts.template, is_own, facts.ends, dict(data.chat_template_kwargs))


def template_digest(chat: RecordedChat) -> str:
    """SHA-256 of the template's text in UTF-8."""
    return hashlib.sha256(chat.template.encode()).hexdigest()


def write_template(record: TrialRecord, folder: Path) -> None:
    """Puts the configuration's own chat template into an adapter's folder; nothing where there is none."""
    chat = recorded_chat(record)
    if chat is not None and chat.is_own:
        (folder / TEMPLATE_FILE).write_text(chat.template, encoding="utf-8")


def chat_sentence(record: TrialRecord, form: Form) -> str:
    """For a card: which template a server must use and what it is passed; empty without one."""
    chat = recorded_chat(record)
    if chat is None:
        return ""
    text = "The chat template is that of the base model's tokenizer."
    if form.merged:
        text = f"The chat template is the tokenizer's, `{TEMPLATE_FILE}`."
    elif chat.is_own:
        text = (
            f"The chat template is `{TEMPLATE_FILE}`, which goes with the adapter; servers take the base model's "
            f"unless told: `--chat-template {TEMPLATE_FILE}` (vLLM, SGLang), `--jinja --chat-template-file "
            f"{TEMPLATE_FILE}` (llama.cpp)."
        )
    if chat.options:
        text += f" Trained with `chat_template_kwargs` {chat.options}: send it with every request."
    return text
