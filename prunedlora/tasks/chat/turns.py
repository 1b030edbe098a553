"""Where an assistant's turn lies in a conversation that is written out, for templates that do not mark it.

Two ways. What comes before a turn and the conversation up to its end are written by themselves: where both are
beginnings of the whole, the turn is what is between (prefixes). Templates that write an earlier turn otherwise than the
last one, without its thoughts say, fail there: then the turn's texts are replaced by words that occur nowhere, and what
is before and after those words must be so in the whole as well (words). Where that fails too, it is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from typing import Any

from prunedlora.tasks.chat.chat_tokens import ChatTokens, Tokens
from prunedlora.tasks.chat.written import Written
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Message


@dataclass(frozen=True)
class Turn:
    """One turn in tokens."""

    begin: int
    """Its first token: the first that the generation prompt has not."""
    end: int
    """Where what is said in it ends: where the token that ends it is, if one does."""
    ending: int | None
    """The id of that token; None where a template marks turns that none ends."""


@dataclass(frozen=True)
class _Found:
    """One turn in characters."""

    begin: int
    said: int
    """Where the search for what ends it begins."""
    limit: int
    """How far what the template writes after it reaches at most."""
    by_prefixes: bool


def find_turn(written: Written, tokens: Tokens, index: int, reader: ChatTokens) -> Turn:
    """The turn that is message `index`, with the token that ends it.

    Raises DataError: it cannot be found, or no token ends it, so that a model could not learn to stop.
    """
    found = _by_prefixes(written, index) or _by_words(written, index)
    message = written.conversation.messages[index]
    end = _end(written.text, tokens, found, reader, several=goes_on(message))
    if end is None:
        raise DataError(
            f"no token of the tokenizer ends the assistant's turn {written.text[found.begin :][:80]!r} in the chat "
            "template, so that a model could not learn to stop: give data.chat_template a file that ends turns in one, "
            "such as the end-of-text token"
        )
    return Turn(tokens.within(found.begin, len(written.text))[0], end, tokens.ids[end])


def num_shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items both begin with alike."""
    return sum(takewhile(bool, map(eq, one, other)))


def goes_on(message: Message) -> bool:
    """Whether special tokens that do not end the turn may follow what is said in it: those around a call of a function,
    or around nothing."""
    return bool(message.get("tool_calls")) or not message.get("content")


def _by_prefixes(written: Written, index: int) -> _Found | None:
    if index == 0:
        return None
    messages = written.conversation.messages
    try:
        before = written.prompt(index)
        upto = written.text if index == len(messages) - 1 else written.with_messages(messages[: index + 1])
    except DataError:  # a template may refuse a conversation that ends there
        return None
    if not (upto.startswith(before) and written.text.startswith(upto) and len(upto) > len(before)):
        return None
    return _Found(len(before), len(before), len(upto), by_prefixes=True)


def _by_words(written: Written, index: int) -> _Found:
    messages, whole = list(written.conversation.messages), written.text
    word = "Zq0turnQz"
    while word in whole:
        word += "Qz"
    messages[index] = _replaced(messages[index], word)
    text = written.with_messages(messages)
    if word not in text:
        raise _lost(index)
    before, after = text[: text.index(word)], text[text.rindex(word) + len(word) :]
    if not (whole.startswith(before) and whole.endswith(after) and len(before) + len(after) <= len(whole)):
        raise _lost(index)
    try:
        alone = written.with_messages(messages[: index + 1])
        closing = num_shared(after, alone[alone.rindex(word) + len(word) :]) if word in alone else 0
    except DataError:  # as above
        closing = 0
    try:
        prompt = written.prompt(index) if index else before
    except DataError:
        prompt = before
    # What the template puts between the generation prompt and the content is the assistant's to write.
    begin = len(prompt) if before.startswith(prompt) else _content_begin(written, index, word, before)
    said = len(whole) - len(after)
    return _Found(begin, said, said + closing, by_prefixes=False)


def _content_begin(written: Written, index: int, word: str, before: str) -> int:
    """Where the content begins, whose text is `before`; of a turn that only calls functions: where it would."""
    messages = list(written.conversation.messages)
    if messages[index].get("content"):
        return len(before)
    messages[index] = {**messages[index], "content": word}
    text = written.with_messages(messages)
    if word not in text or not written.text.startswith(text[: text.index(word)]):
        raise _lost(index)
    return text.index(word)


def _replaced(message: Message, word: str) -> dict[str, Any]:
    """The message with its content and the name of the last function that it calls replaced."""
    new = dict(message)
    calls = list(message.get("tool_calls") or ())
    if calls:
        call = dict(calls[-1])
        calls[-1] = (
            {**call, "function": {**call["function"], "name": word}} if "function" in call else call | {"name": word}
        )
        new["tool_calls"] = calls
    content = message.get("content")
    if isinstance(content, list | tuple):
        new["content"] = [{**block, "text": word} if "text" in block else block for block in content]
    elif content or not calls:
        new["content"] = word
    return new


def _lost(index: int) -> DataError:
    return DataError(
        f"the assistant's turn (message {index}) cannot be found in what the chat template writes: give "
        "data.chat_template a file that marks it, with {% generation %} … {% endgeneration %}"
    )


def _end(text: str, tokens: Tokens, found: _Found, reader: ChatTokens, *, several: bool) -> int | None:
    """The token that ends the turn: of those that close it the first special one; the last where `several` may follow
    what is said, as after a call of a function."""
    first, last = tokens.within(found.said, found.limit)

    def is_special(index: int) -> bool:
        return tokens.ids[index] in reader.special

    def is_space(index: int) -> bool:
        return not text[slice(*tokens.offsets[index])].strip()

    if found.by_prefixes:
        start = last
        while start > first and (is_special(start - 1) or is_space(start - 1)):
            start -= 1
    else:
        start = first
    closing = [i for i in range(start, last) if is_special(i) and tokens.offsets[i][1] <= found.limit]
    if closing:
        return closing[-1 if several else 0]
    if found.by_prefixes:
        said = [index for index in range(first, last) if not is_space(index)]
        if said and tokens.ids[said[-1]] in reader.added:
            return said[-1]
    following = last if found.by_prefixes else first
    while following < len(tokens.ids) and is_space(following):
        following += 1
    if following == len(tokens.ids):
        return None
    is_end = reader.added if not found.by_prefixes else {reader.eos}
    return following if tokens.ids[following] in is_end else None
