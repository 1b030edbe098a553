"""Which examples a chat template writes out, and settings that would change none of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.task import ChatSettings

Kind = Literal["plain", "templated", "segments"]
PLAIN: Kind = "plain"
TEMPLATED: Kind = "templated"
SEGMENTS: Kind = "segments"


def kind_of(example: Example, chat: ChatSettings) -> Kind:
    """How the example becomes tokens: prompt and target as they are, written out by a chat template, or segments."""
    if example.segments is not None:
        return SEGMENTS
    if chat.template == "none" or (chat.template is None and example.conversation is None):
        return PLAIN
    return TEMPLATED


def named(example: Example) -> str:
    """What an example is called in a message."""
    return example.place or repr((example.prompt or example.target)[:80])


def plainly(example: Example) -> Example:
    """A plain example's texts: of a conversation the contents of all messages before the last, each with a newline
    after it, as the prompt, and the last one's as the target. What is more than texts is refused before
    (check_chat_settings)."""
    if example.conversation is None:
        return example
    *before, last = [str(message["content"]) for message in example.conversation.messages]
    return replace(example, prompt="".join(f"{content}\n" for content in before), target=last)


def check_chat_settings(chat: ChatSettings, examples: Sequence[Example]) -> None:
    """Raises DataError for chat settings that change none of the examples, and for examples that they do not fit."""
    templated = [example for example in examples if kind_of(example, chat) == TEMPLATED]
    given: list[tuple[str, object]] = [("chat_template_kwargs", chat.options), ("train_on", chat.train_on)]
    if chat.template != "none":
        given.insert(0, ("chat_template", chat.template))
    for name, value in given:
        if value and not templated:
            raise DataError(f"data.{name} has no effect: no example is written out by a chat template; remove it")
    for example in templated:
        if chat.train_on == "completion" and (example.conversation is None or example.conversation.num_prompt is None):
            raise DataError(
                f"{named(example)}: data.train_on completion is for rows that part prompt and completion "
                "themselves, which this one does not: give assistant, last or all"
            )
    for example in examples:
        if example.system is not None and kind_of(example, chat) == PLAIN:
            raise DataError(
                f"{named(example)}: the source's system prompt has no effect on plain text: give data.chat_template "
                "tokenizer or a file, or write it into the prompt's template"
            )
    if chat.template == "none":
        for example in examples:
            _check_plain(example)


def _check_plain(example: Example) -> None:
    conversation = example.conversation
    if conversation is None:
        return
    tools = conversation.tools or any(
        message.get("role") == "tool" or message.get("tool_calls") for message in conversation.messages
    )
    if tools or not all(isinstance(message.get("content"), str) for message in conversation.messages):
        what = "it has tools" if tools else "a message of it has no text as its content"
        raise DataError(
            f"{named(example)}: data.chat_template none reads conversations as plain text, and {what}: give tokenizer "
            "or a file"
        )
