"""One example as a source gives it, before any tokenizer. No torch here.

Most are two texts, made by templates. Others keep the shape that their file has: a conversation, which a chat template
writes out (chat/), or a row of texts of which some are trained (segments).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunedlora.tasks.dialogue_turns import turns

Message = Mapping[str, Any]
"""`role` (system, user, assistant, tool or what else a template knows), `content`, and what it has besides: tool_calls,
reasoning_content, name, …; no key of it is None (inside of arguments, null is a value)."""

SPELLING = ("text", "input_output")
"""Formats whose rows may spell special tokens that are meant as such."""


@dataclass(frozen=True)
class Conversation:
    """Messages in their order, the last one the assistant's."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    """JSON schemas of the functions that the model may call, as chat templates take them."""
    num_prompt: int | None = None
    """How many of the messages are the prompt, where the row itself parts prompt and completion; None: it does not."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the row itself passes to the chat template (a column chat_template_kwargs); wins over the configuration."""


@dataclass(frozen=True)
class Segment:
    """A part of a text that is tokenised by itself."""

    text: str
    trained: bool


@dataclass(frozen=True)
class Example:
    """What the model reads and what it should answer."""

    prompt: str
    """Of a conversation: all before the assistant's last turn as one text, which tells it from others and is not what a
    model reads. Of segments: those before the last trained one; empty where that is the first, as in plain text."""
    target: str
    """The class, or the answer; of a conversation the content of the assistant's last turn; of segments the last
    trained one."""
    verifier: Callable[[str], float] | None = field(default=None, compare=False, repr=False)
    """The source's own score of an answer, 1 for a correct one; None where the source has none."""
    group: str | None = field(default=None, compare=False, repr=False)
    """What it shares with examples that must be in the same split; None where the source has no groups."""
    prompt_literals: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What the prompt's template says itself. Special tokens are read there and nowhere else."""
    target_literals: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """The same of the target's."""
    system: str | None = None
    """The source's system prompt for plain texts, which a chat template then writes out as a user's and the assistant's
    turn; a conversation has its own among its messages."""
    conversation: Conversation | None = None
    segments: tuple[Segment, ...] | None = None
    special_tokens: bool | None = None
    """Whether special tokens that segments spell are read as such or as characters; None: none may be spelt."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Values of further columns, which a score of one's own reads (`score_columns`)."""
    place: str = field(default="", compare=False, repr=False)
    """Where it is from, for messages: "dataset 'chats.jsonl', row 12"."""

    dialogue: str | None = field(default=None, compare=False, repr=False)
    """What it shares with all examples that are parts of its dialogue or have its prompt, once `load_splits` has looked
    for them (continuations.py)."""

    @property
    def asked(self) -> str:
        """What tells its prompt from others: of a conversation without system prompt, tools and further keys."""
        if self.conversation is None:
            return self.prompt or self.target
        return list(turns(self.conversation.messages))[-1].asked

    @property
    def unit(self) -> str:
        """What must not be in two splits, where there are no groups."""
        return self.asked if self.dialogue is None else self.dialogue
