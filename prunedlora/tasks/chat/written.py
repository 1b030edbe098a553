"""A conversation as its template writes it: the whole, and what the assistant reads before each of its turns."""

from collections.abc import Sequence
from dataclasses import replace

from prunedlora.tasks.chat.chat_template import ChatTemplate, Span
from prunedlora.tasks.chat.chat_tokens import Rendered
from prunedlora.tasks.example import Conversation, Message


class Written:
    """One conversation, each of whose texts is made once."""

    def __init__(self, template: ChatTemplate, conversation: Conversation) -> None:
        """Raises DataError where the template refuses it."""
        template.check(conversation)
        self.conversation = conversation
        self.turns = [i for i, message in enumerate(conversation.messages) if message.get("role") == "assistant"]
        """Which of the messages are the assistant's."""
        self._template = template
        self._prompts: dict[int, str] = {}
        self.marks: list[Span] | None = None
        """Where the template marks what the assistant writes; None for a template that has no marks."""
        if template.has_marks(conversation):
            self.text, self.marks = template.marked(conversation)
        else:
            self.text = template.text(conversation, conversation.messages)

    @property
    def whole(self) -> Rendered:
        """All of it, to be tokenised."""
        return Rendered(self.text, self.conversation, lambda other: self._template.text(other, other.messages))

    def prompt(self, turn: int) -> str:
        """What the assistant reads before it writes message `turn`. Raises DataError."""
        if turn not in self._prompts:
            before = self.conversation.messages[:turn]
            self._prompts[turn] = self._template.text(self.conversation, before, generation_prompt=True)
        return self._prompts[turn]

    def rendered_prompt(self, turn: int) -> Rendered:
        """The same, to be tokenised."""

        def again(other: Conversation) -> str:
            return self._template.text(other, other.messages[:turn], generation_prompt=True)

        return Rendered(self.prompt(turn), self.conversation, again)

    def with_messages(self, messages: Sequence[Message]) -> str:
        """Other messages, written with its tools and options. Raises DataError."""
        return self._template.text(self.conversation, messages)

    def saying(self, index: int, content: str) -> "Written":
        """The conversation with another content of message `index`. Raises DataError."""
        messages = list(self.conversation.messages)
        messages[index] = {**messages[index], "content": content}
        return Written(self._template, replace(self.conversation, messages=tuple(messages)))

    def without(self, first: int, last: int) -> "Written":
        """The conversation less messages[first:last], of which none is of a completion."""
        kept = (*self.conversation.messages[:first], *self.conversation.messages[last:])
        num_prompt = self.conversation.num_prompt
        number = None if num_prompt is None else num_prompt - (last - first)
        return Written(self._template, replace(self.conversation, messages=kept, num_prompt=number))
