"""What a chat template does with conversations that is no error and worth a warning: found on the first examples."""

from collections.abc import Iterator, Sequence
from typing import Any

from prunedlora.tasks.chat.chat_template import WRITTEN_BY_NAME
from prunedlora.tasks.chat.chat_tokens import ChatTokens, Tokens
from prunedlora.tasks.chat.trained import last_turn, trained_spans
from prunedlora.tasks.chat.written import Written
from prunedlora.tasks.example import Message
from prunedlora.tasks.task import TrainOn

MOST_LOOKED_AT = 200
REASONING = tuple(key for key in WRITTEN_BY_NAME if key != "tool_calls")


def asks_otherwise(written: Written) -> str | None:
    """The end of the prompt that the last answer is generated from, where the conversation is not trained to go on from
    it: "…<think>\\n"; None where it is."""
    prompt = written.prompt(written.turns[-1])
    return None if written.text.startswith(prompt) else prompt[-40:]


def leaves_out(written: Written, train_on: TrainOn) -> str | None:
    """The beginning of what a trained turn says and the template does not write, or writes otherwise; None where all of
    it is written. White space does not count."""
    said = _without_space(written.text)
    for index in _trained_turns(written, train_on):
        for text in _texts(written.conversation.messages[index]):
            if _without_space(text) not in said:
                return text.strip()[:60]
    return None


def does_not_stop(written: Written, tokens: Tokens, train_on: TrainOn, reader: ChatTokens) -> bool:
    """Whether the template's marks leave out the token that ends the last turn. Raises DataError as trained_spans."""
    if written.marks is None or train_on not in ("assistant", "last"):
        return False
    return last_turn(written, tokens, reader).end >= trained_spans(written, tokens, train_on, reader, 0)[-1]


def lines(asked: Sequence[str], left_out: Sequence[str], endless: int, looked_at: int) -> Iterator[str]:
    """The warnings. `asked`, `left_out`: what asks_otherwise and leaves_out found; `endless`: conversations that do not
    stop."""
    if asked:
        yield (
            f"in {_share(len(asked), looked_at)} the chat template does not write the prompt that the answer is "
            f"generated from (which ends in {asked[0]!r}) before the answer that is trained: what is evaluated is "
            "never trained; set data.chat_template_kwargs to an option of the template that makes both alike, or "
            "data.chat_template to a file that does"
        )
    if left_out:
        yield (
            f"in {_share(len(left_out), looked_at)} the chat template leaves out or changes what a trained turn says "
            f"({left_out[0]!r}…), which is not learnt: set data.chat_template to a file that writes it, or "
            "data.chat_template_kwargs to an option that does, or take it out of the data"
        )
    if endless:
        yield (
            f"in {_share(endless, looked_at)} the chat template's {{% generation %}} marks leave out the token that "
            "ends the turn, so that the model is not taught to stop: set data.chat_template to a file whose marks "
            "include it"
        )


def _share(number: int, looked_at: int) -> str:
    return f"{number} of {looked_at} conversations looked at"


def _trained_turns(written: Written, train_on: TrainOn) -> list[int]:
    if train_on == "last":
        return written.turns[-1:]
    first = (written.conversation.num_prompt or 0) if train_on == "completion" else 0
    return [index for index in written.turns if index >= first]


def _texts(message: Message) -> Iterator[str]:
    content: Any = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | tuple):
        yield from (block["text"] for block in content if isinstance(block.get("text"), str))
    for key in REASONING:
        if isinstance(message.get(key), str):
            yield message[key]


def _without_space(text: str) -> str:
    return "".join(text.split())
