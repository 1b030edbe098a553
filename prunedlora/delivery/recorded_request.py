"""The request that gives a trial's recorded figures: its endpoint, prompt and sampling, by its record."""

from typing import Any

from prunedlora.config.source_section import SourceConfig
from prunedlora.delivery.form import Form
from prunedlora.delivery.recorded_answers import recorded_answers
from prunedlora.delivery.recorded_chat import TEMPLATE_FILE, RecordedChat, recorded_chat, template_digest
from prunedlora.delivery.recorded_trial import recorded_trial
from prunedlora.results.record import TrialRecord
from prunedlora.servers.example_request import Endpoint, ExampleRequest
from prunedlora.tasks.templates import parse

BEGINS_FACT = "begins_with"
"""Among the facts of the data on record, of a generation task: the token that the tokenizer puts before every text that
it is given alone, None where there is none. Older records lack it."""
ANY_TEXT = "…"
MOST_TOKENS = 64
"""Of an answer, where none was measured."""


def recorded_request(record: TrialRecord) -> ExampleRequest:
    """An example with the columns of its prompt still to be filled in, as the first of the sources that figures are
    from: those of the validation split, or, where that is cut from training's, theirs. Raises RecordError for facts
    that are none."""
    data, answers = recorded_trial(record).data, recorded_answers(record)
    source = (data.sources("validation") or data.sources("train"))[0]
    text = example_text(source)
    if answers is None:
        return ExampleRequest(Endpoint.CLASSIFY, text)
    chat = recorded_chat(record)
    sampling: dict[str, Any] = {
        "max_tokens": answers.max_new_tokens or MOST_TOKENS,
        "stop": answers.stop,
        "end_ids": tuple(answers.end_ids),
    }
    if chat is None:
        return ExampleRequest(Endpoint.COMPLETIONS, text, **sampling)
    return ExampleRequest(Endpoint.CHAT, text, source.system, chat.options, **sampling)


def example_text(source: SourceConfig) -> str:
    """The prompt of a template with its columns in braces; ANY_TEXT for rows that hold their own."""
    if source.prompt is None:
        return ANY_TEXT
    return "".join(text + ("" if column is None else f"{{{column}}}") for text, column in parse(source.prompt).pieces)


def starts_bare(record: TrialRecord) -> bool:
    """Whether the chat template leaves out the beginning-of-text token that the tokenizer puts before other texts: a
    server that adds it shows the model what it was not trained on. False where the record does not say."""
    chat, begins = recorded_chat(record), record.environment.data.get(BEGINS_FACT)
    if chat is None or not isinstance(begins, str):
        return False
    return "bos_token" not in chat.template and begins not in chat.template


def request_document(record: TrialRecord, form: Form) -> dict[str, Any]:
    """The same as plain JSON data, for a certificate."""
    request, chat, data = recorded_request(record), recorded_chat(record), record.environment.data
    found: dict[str, Any] = {"endpoint": request.endpoint.value} | request.asked
    if BEGINS_FACT in data and request.endpoint == Endpoint.COMPLETIONS:
        found[BEGINS_FACT] = data[BEGINS_FACT]
    if chat is not None:
        file = TEMPLATE_FILE if chat.is_own or form.merged else None
        found["chat_template"] = {"file": file, "sha256": template_digest(chat), "begins_bare": starts_bare(record)}
        found |= request.template_options
    if request.endpoint != Endpoint.CLASSIFY:
        found["sampling"] = request.limits | {"repetition_penalty": 1} | request.ends
    return found


def request_sentences(record: TrialRecord) -> str:
    """For a card: where requests go, and what a prompt looks like there; empty for classes."""
    request = recorded_request(record)
    match request.endpoint:
        case Endpoint.CHAT:
            return _of_chats(record, request)
        case Endpoint.COMPLETIONS:
            return _of_prompts(record, request)
        case Endpoint.CLASSIFY:
            return ""


def _of_chats(record: TrialRecord, request: ExampleRequest) -> str:
    text = f"It was trained on conversations: send them to `{request.endpoint}`."
    if request.system is not None:
        text += f" A conversation without a system message of its own had this one: {request.system!r}."
    if request.text != ANY_TEXT:
        text += f" What its user says was written as {request.text!r}, with the columns filled in."
    if starts_bare(record):
        begins = record.environment.data[BEGINS_FACT]
        text += (
            f" The template writes no `{begins}`, and the tokenizer puts one before other texts: where a server adds "
            "it to conversations too, switch that off."
        )
    return text


def _of_prompts(record: TrialRecord, request: ExampleRequest) -> str:
    text = (
        f"It was trained on bare prompts, without a chat template: send them to `{request.endpoint}`, not to a chat "
        "endpoint."
    )
    if request.text != ANY_TEXT:
        text += f" They were written as {request.text!r}, with the columns filled in."
    data = record.environment.data
    if BEGINS_FACT not in data:
        return f"{text} Before them stands what the tokenizer itself puts there, as servers do it by default."
    if data[BEGINS_FACT] is None:
        return f"{text} Nothing stands before them: the tokenizer puts no token there, and servers none by default."
    return (
        f"{text} Before them stands `{data[BEGINS_FACT]}`, which the tokenizer puts there, and servers by default too."
    )


def own_template(chat: RecordedChat | None, form: Form) -> str | None:
    """The file beside an adapter that servers have to be told of; None where they find the template by themselves."""
    return TEMPLATE_FILE if chat is not None and chat.is_own and not form.merged else None
