"""What a task offers to training: examples → features → batches → loss and outcomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.tasks.splits import Splits

INPUTS = ("input_ids", "attention_mask")
"""What of a batch the model reads; the rest says what it is to predict, and where."""


class Shortened(IntEnum):
    """How an example was brought within the limit of length."""

    NOT = 0
    IN_TEXT = 1
    """Tokens were cut off."""
    AT_TURNS = 2
    """The oldest turns of a conversation were left out, and no turn was cut."""


TrainOn = Literal["assistant", "last", "completion", "all"]


@dataclass(frozen=True)
class ChatSettings:
    """How conversations are written out and what of them is trained: fields of the configuration's data section."""

    template: str | None = None
    """As data.chat_template: None, "tokenizer", "none", or a file's path."""
    options: Mapping[str, Any] = field(default_factory=dict)
    train_on: TrainOn | None = None


AS_GIVEN = ChatSettings()


@dataclass(frozen=True, slots=True)
class Features:
    """One example as the model takes it."""

    input_ids: list[int]
    """All tokens, special ones included, without padding."""
    targets: list[int]
    """Classification: the class. Generation: where in `input_ids` the tokens that are to be predicted lie, as half-open
    spans one after the other, [begin, end, begin, end, …], which rise and do not touch."""
    shortened: Shortened
    """Whether it lost tokens to keep within the limit, and how."""
    example: Example | None
    """Its texts; None where they are not kept: in training, which needs the tokens alone."""
    prompt_ids: list[int] | None = None
    """Generation: what the answer is generated from, where that is not `input_ids` up to the first target: a template
    may write a conversation otherwise once more turns follow."""

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Of generation: `targets` as (begin, end)."""
        return list(zip(self.targets[::2], self.targets[1::2], strict=True))

    @property
    def target_ids(self) -> list[int]:
        """Of generation: the tokens that are to be predicted."""
        return [token for begin, end in self.spans for token in self.input_ids[begin:end]]

    @property
    def prompt(self) -> list[int]:
        """Of generation: the tokens that the answer is generated from."""
        return self.input_ids[: self.targets[0]] if self.prompt_ids is None else self.prompt_ids


class Task(Protocol):
    """A way to make text into a training signal and a score. One per (splits, tokenizer); holds no model."""

    metrics: ClassVar[tuple[str, ...]]
    """What `evaluation.metric` may name."""
    generating_metrics: ClassVar[tuple[str, ...]]
    """Those among them for which answers are generated; their evaluation gives the loss as well."""
    has_classes: ClassVar[bool]
    """Whether the targets are the names of classes."""
    auto_model: ClassVar[str]
    """The class of transformers that loads a fitting model."""

    @classmethod
    def from_splits(
        cls,
        splits: Splits,
        tokenizer: PreTrainedTokenizerBase,
        *,
        metric: str,
        max_length: int | None = None,
        model_limit: int | None = None,
        max_new_tokens: int | None = None,
        stop: Sequence[str] = (),
        labels: Sequence[str] | None = None,
        chat: ChatSettings = AS_GIVEN,
    ) -> Self:
        """The task for these examples. `model_limit` is the model's number of positions where it has one; generated
        answers end before the first of the `stop` texts; `labels` are the classes of a model that is trained already,
        in the order of its outputs; `chat`: how conversations are written out.

        Raises DataError when examples, tokenizer, metric and labels do not fit together.
        """

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The classes in the order of the model's outputs; None where the task has none."""

    @property
    def model_settings(self) -> dict[str, Any]:
        """Settings of the model's config that the task fixes: pass them to `from_pretrained`."""

    @property
    def encoding(self) -> dict[str, Any]:
        """What of the task decides its features, as plain data, the tokenizer included: where it is equal, in whatever
        process, equal examples have equal features."""

    @property
    def facts(self) -> dict[str, Any]:
        """What of it goes into the record beside the examples' numbers, as plain data; nothing by default. `chat`: how
        conversations were written out, {"template": the text, "ends": {token: id} of those that end an answer in the
        data and are no part of it}; `begins_with`: the token that the tokenizer puts before a prompt, or None."""

    def answer_ends(self, model: nn.Module) -> dict[str, int]:
        """Token → id: all that end an answer that is generated with this model; none where none is."""

    def encode(self, examples: Sequence[Example], *, prompts: bool = True) -> list[Features]:
        """The examples tokenised, in their order: each for itself, so that parts of a split together are the split.
        For a few; a split's features are some 40 bytes a token as lists, and lie in a file (tokenised.py). Without
        `prompts` nothing is made that only generating needs: `prompt_ids` are None."""

    def scored(self, example: Example) -> Example:
        """The example with the target that answers to it are scored against, which a chat template may have changed."""

    def warnings(self, examples: Sequence[Example]) -> Iterable[str]:
        """What of these training examples is no error and worth a warning; the first of them are looked at."""

    def collate(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """One padded batch: INPUTS (batch, tokens), `labels` and what else says where the targets are, all int64, on
        the CPU."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """(sum of the cross-entropy over all targets, float32 scalar with graph; number of targets).

        A sum, so that batches split over workers and micro-batches add up before one division. The batch must be on
        the model's device.
        """

    def evaluate(
        self,
        model: nn.Module,
        features: Sequence[Features],
        batch_size: int,
        device: torch.device | str,
        *,
        generate: bool = True,
    ) -> Outcomes:
        """The outcomes in the order of `features`, without dropout and gradients. Leaves the model as it was.

        Without `generate` no answer is generated, and what is made of answers is left out: the loss is there.
        """


def length_limit(tokenizer: PreTrainedTokenizerBase, max_length: int | None, model_limit: int | None) -> int | None:
    """Most tokens of one input: `max_length`, or by default what tokenizer and model allow; None for no limit.

    Raises DataError when `max_length` is more than the model takes.
    """
    unlimited = 10**9  # tokenizers without a limit say 10**30
    known = [limit for limit in (tokenizer.model_max_length, model_limit) if limit is not None and limit < unlimited]
    allowed = min(known, default=None)
    if max_length is not None and allowed is not None and max_length > allowed:
        raise DataError(f"max_length {max_length} is above the model's limit of {allowed} tokens")
    return allowed if max_length is None else max_length


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with: the tokenizer's padding token, or else its end-of-text token, which is safe because padding
    is told apart by position (attention mask, labels), never by id.

    Raises DataError when the tokenizer has neither.
    """
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise DataError(f"tokenizer {tokenizer.name_or_path!r} has neither a padding nor an end-of-text token")
