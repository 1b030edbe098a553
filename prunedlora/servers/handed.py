"""An adapter as it lies before whoever serves it: where it is, on what base model, and what its server is told."""

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from prunedlora.servers.adapter_shape import AdapterShape

HERE = "."


@dataclass(frozen=True)
class BaseModel:
    """The base model as the shell and a server name it."""

    name: str
    """On the Hub, or a path."""
    word: str
    """The same as one word of a shell command, quoted; may be an expression that finds it."""
    is_local: bool
    """Whether it is a path."""
    revision: str | None = None
    dtype: str | None = None
    """That figures were measured in: float32, bfloat16, float16; None: not on record, or quantised."""
    gguf_file: str | None = None
    """File in it, of a model that is kept as GGUF."""


@dataclass(frozen=True)
class Handed:
    """What is served, in its form."""

    shape: AdapterShape
    name: str
    """What requests call it: letters, digits, `.`, `_` and `-`."""
    base: BaseModel
    hub: str | None = None
    """OWNER/NAME where it is on the Hub; None: in this folder."""
    template: str | None = None
    """The file beside it with the chat template that it was trained with, where that is not the tokenizer's own."""
    starts_bare: bool = False
    """Whether conversations begin without the beginning-of-text token that the tokenizer puts before other texts."""

    @property
    def place(self) -> str:
        """For servers that take a path or a name of the Hub."""
        return self.hub or HERE

    @property
    def folder(self) -> str:
        """For those that take paths alone: where `download` puts it."""
        return HERE if self.hub is None else PurePosixPath(self.hub).name

    def file(self, name: str) -> str:
        """A file of it, as a path."""
        return name if self.folder == HERE else f"{self.folder}/{name}"

    @property
    def download(self) -> tuple[str, ...]:
        """Commands that bring it into `folder`; none where it is there."""
        if self.hub is None:
            return ()
        return (f"hf download {shlex.quote(self.hub)} --local-dir {shlex.quote(self.folder)}",)


def command(*words: str | None) -> str:
    """A shell command of these words, which are quoted already; without those that are None or empty."""
    return " ".join(word for word in words if word)


def flag(name: str, value: str | None) -> str | None:
    """`name value`, quoted; None without a value."""
    return None if value is None else f"{name} {shlex.quote(value)}"
