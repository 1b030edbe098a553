"""A chat template: whose it is, and what it makes of a conversation. Written out by transformers alone."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from prunedlora.tasks.chat.option_names import option_problem
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Conversation, Message
from prunedlora.tasks.task import ChatSettings

MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
TEMPLATE_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a template raises, by its own words or because a message is not what it expects."""
SPECIAL_TOKENS = (
    "bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token",
    "additional_special_tokens",
)  # fmt: skip
WRITTEN_BY_NAME = {
    "tool_calls": ("tool_calls",),
    "reasoning_content": ("reasoning_content", "thinking", "reasoning"),
    "thinking": ("reasoning_content", "thinking", "reasoning"),
    "reasoning": ("reasoning_content", "thinking", "reasoning"),
}
"""Key of a message → names under which a template reads it; transformers passes reasoning under all three."""

Span = tuple[int, int]


class ChatTemplate:
    """The tokenizer's own template, or that of a file, with the options of the configuration."""

    def __init__(self, settings: ChatSettings, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises DataError: the tokenizer has no template, a file that cannot be read or is no template, options that
        no template can take or that this one does not read."""
        self._options = dict(settings.options)
        self._special_tokens = dict(tokenizer.special_tokens_map)
        self._file = None if settings.template in (None, "tokenizer") else Path(str(settings.template)).expanduser()
        if self._file is not None:
            text = _read(self._file)
            self._of: Callable[[Any], str] = lambda tools: text
        else:
            self._of = _own(tokenizer)
        texts = self._texts
        for text in texts:
            self._checked_syntax(text)
        check_reserved(self._options)
        self._reads: dict[str, bool] = {}
        for name in self._options:
            if not self._is_read(name):
                raise DataError(f"data.chat_template_kwargs has no effect: {self._name} does not read {name!r}")

    @property
    def identity(self) -> dict[str, Any]:
        """What of it decides the texts that it makes. A template that asks for the date makes others every day."""
        today = datetime.now(UTC).astimezone().date().isoformat()
        dated = any("strftime_now" in text for text in self._texts)
        return {
            "texts": self._texts,
            "options": self._options,
            "special_tokens": self._special_tokens,
            "date": today if dated else None,
        }

    @property
    def _texts(self) -> list[str]:
        return list(dict.fromkeys([self._of(None), self._of([{}])]))

    @property
    def _name(self) -> str:
        return "the tokenizer's chat template" if self._file is None else f"chat template {str(self._file)!r}"

    def has_marks(self, conversation: Conversation) -> bool:
        """Whether it marks what the assistant writes, with {% generation %}."""
        return MARKS.search(self._of(conversation.tools)) is not None

    def text(self, conversation: Conversation, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """These messages written out, with the tools and options of the conversation that they are of.

        Raises DataError where the template does.
        """
        return self._render(conversation, messages, add_generation_prompt=generation_prompt)[0]

    def marked(self, conversation: Conversation) -> tuple[str, list[Span]]:
        """The whole conversation, and where in it the template's {% generation %} marks lie. Raises DataError."""
        return self._render(conversation, conversation.messages, return_assistant_tokens_mask=True)

    def check(self, conversation: Conversation) -> None:
        """Raises DataError for what the template would leave out without a word, and for options of the row that none
        takes, that this one does not read, or that are special tokens of the tokenizer."""
        check_reserved(conversation.options)
        for name in conversation.options:
            if name in SPECIAL_TOKENS or name in self._special_tokens:
                raise DataError(f"its chat_template_kwargs cannot set {name!r}, a special token of the tokenizer")
            if not self._is_read(name):
                raise DataError(f"its chat_template_kwargs has no effect: {self._name} does not read {name!r}")
        text = self._of(conversation.tools)
        if conversation.tools and not re.search(r"\btools\b", text):
            raise DataError(f"it has tools, and {self._name} writes none; {_OTHER_TEMPLATE}")
        for message in conversation.messages:
            for key, names in WRITTEN_BY_NAME.items():
                if message.get(key) and not any(name in text for name in names):
                    raise DataError(f"a message has {key}, which {self._name} does not write; {_OTHER_TEMPLATE}")

    def _is_read(self, option: str) -> bool:
        if option not in self._reads:
            self._reads[option] = any(re.search(rf"\b{re.escape(option)}\b", text) for text in self._texts)
        return self._reads[option]

    def _render(self, conversation: Conversation, messages: Sequence[Message], **how: Any) -> tuple[str, list[Span]]:
        tools: Any = [dict(tool) for tool in conversation.tools] if conversation.tools else None
        options = {**self._special_tokens, **self._options, **conversation.options, **how}
        template = self._of(conversation.tools)
        try:
            rendered: Any = render_jinja_template(
                [[dict(message) for message in messages]], tools=tools, chat_template=template, **options
            )
        except TEMPLATE_ERRORS as error:
            said = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise DataError(
                f"{self._name} refuses the conversation ({roles}): {said!r}; change these rows to what it takes, or "
                "give data.chat_template a file that takes them"
            ) from error
        (text,), marks = rendered
        return str(text), [(int(begin), int(end)) for begin, end in (marks[0] if marks else ())]

    def _checked_syntax(self, text: str) -> None:
        try:
            render_jinja_template([], chat_template=text)
        except TemplateSyntaxError as error:
            raise DataError(f"{self._name}, line {error.lineno}: {error.message}") from error


_OTHER_TEMPLATE = "take them out of the data, or give data.chat_template a file that writes them"


def check_reserved(options: Mapping[str, Any]) -> None:
    """Raises DataError for options with the names of what a template is passed anyway, or that it cannot read."""
    for name in options:
        if problem := option_problem(name):
            raise DataError(f"{problem}; remove it")


def _own(tokenizer: PreTrainedTokenizerBase) -> Callable[[Any], str]:
    """tools → the tokenizer's template: some have another one for conversations with tools."""

    def of(tools: Any) -> str:
        return str(tokenizer.get_chat_template(tools=tools or None))

    try:
        of(None)
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise DataError(
            f"tokenizer {tokenizer.name_or_path!r} has no chat template for the conversations of the data: give "
            "data.chat_template a file, or none to read them as plain text"
        ) from error
    return of


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"data.chat_template {str(path)!r} cannot be read: {error}") from error
