"""Features as a text in which what is trained stands in double brackets."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from prunedlora.tasks.example import Example
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import ChatSettings, Features
from tests.tasks.chat.chat_families import tokenizer_of


def task_over(
    family: str | PreTrainedTokenizerBase, *examples: Example, metric: str = "loss", **settings: Any
) -> Generation:
    """A task each of whose splits is these examples. Fields of the chat settings are passed by their names."""
    chat = {name: settings.pop(name) for name in ("template", "options", "train_on") if name in settings}
    tokenizer = tokenizer_of(family) if isinstance(family, str) else family
    splits = Splits(examples, examples, examples, {}, "")
    return Generation.from_splits(splits, tokenizer, metric=metric, chat=ChatSettings(**chat), **settings)


def shown(tokenizer: PreTrainedTokenizerBase, features: Features) -> str:
    """The text of all tokens."""
    parts, last = [], 0
    for begin, end in features.spans:
        parts += [tokenizer.decode(features.input_ids[last:begin]), "⟦"]
        parts += [tokenizer.decode(features.input_ids[begin:end]), "⟧"]
        last = end
    return "".join([*parts, tokenizer.decode(features.input_ids[last:])])


def read(family: str, example: Example, **settings: Any) -> str:
    """What a task makes of one example."""
    (features,) = task_over(family, example, **settings).encode([example])
    return shown(tokenizer_of(family), features)
