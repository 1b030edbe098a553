"""What a server is asked so that it answers as it was measured: endpoint, prompt, and sampling."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Endpoint(StrEnum):
    """A member's text is its path."""

    CHAT = "/v1/chat/completions"
    """For adapters of conversations: the server writes them out by a chat template."""
    COMPLETIONS = "/v1/completions"
    """For adapters of bare prompts: the server tokenises the text as it is."""
    CLASSIFY = "/classify"
    """For adapters with classes, where there is such a thing."""


@dataclass(frozen=True)
class ExampleRequest:
    """One request. Decoding is greedy and without penalties, as answers are measured."""

    endpoint: Endpoint
    text: str
    """The prompt; of a conversation what its user says."""
    system: str | None = None
    """The system's turn; None without."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template is passed besides (`chat_template_kwargs`)."""
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    """An answer ends before the first of these texts."""
    end_ids: tuple[int, ...] = ()
    """Ids of all tokens that end an answer; () where they are not on record."""

    @property
    def messages(self) -> list[dict[str, str]]:
        """Of a conversation, as the endpoint takes them."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": self.text}]

    @property
    def asked(self) -> dict[str, Any]:
        """What is read."""
        if self.endpoint == Endpoint.CHAT:
            return {"messages": self.messages}
        return {"input" if self.endpoint == Endpoint.CLASSIFY else "prompt": self.text}

    @property
    def limits(self) -> dict[str, Any]:
        """What every OpenAI-like server takes: length, greedy decoding, stop texts."""
        return {"max_tokens": self.max_tokens, "temperature": 0} | ({"stop": list(self.stop)} if self.stop else {})

    @property
    def template_options(self) -> dict[str, Any]:
        """As vLLM, SGLang, TensorRT-LLM, llama.cpp and MLX take them."""
        return {"chat_template_kwargs": dict(self.options)} if self.options else {}

    @property
    def ends(self) -> dict[str, Any]:
        """As vLLM, SGLang and TensorRT-LLM take them."""
        return {"stop_token_ids": list(self.end_ids)} if self.end_ids else {}


def curl(url: str, body: Any) -> str:
    """A shell command that posts a JSON document."""
    text = json.dumps(body, ensure_ascii=False)
    return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(text)}"
