"""Text classification with a standard sequence-classification head on an encoder or a decoder."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from prunedlora.corpus_figures import CORPUS_FIGURES
from prunedlora.metric_kinds import figure_name, has_metric, own_metric
from prunedlora.registry import register
from prunedlora.tasks.batching import by_length, evaluating, pad_inputs, to_device
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.metrics.own_score import OwnScore
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.tasks.plain_text import PlainText
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import AS_GIVEN, ChatSettings, Features, Shortened, length_limit, padding_token
from prunedlora.tasks.tokenizer_identity import tokenizer_identity

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@register("task", "text_classification")
class TextClassification:
    """The target of an example is the name of its class; the classes are those that are asked for, in their order,
    of which the data may lack some; else those of the training examples, in the order of numbers where all of them are
    numbers, otherwise as text.

    Inputs longer than the limit lose tokens where the tokenizer says (`truncation_side`, usually the end). Batches are
    padded on the right. Decoder models pool their last token that is not padding, which they find by
    `config.pad_token_id`: it is among `model_settings`, and the exported model's user needs it too.
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", *CORPUS_FIGURES, "loss")
    generating_metrics: ClassVar[tuple[str, ...]] = ()
    has_classes: ClassVar[bool] = True
    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"

    def __init__(
        self,
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
        metric: str = "accuracy",
    ) -> None:
        special = tokenizer.num_special_tokens_to_add()
        if max_length is not None and max_length <= special:
            raise DataError(f"max_length {max_length} leaves no room for text beside {special} special tokens")
        self._labels = tuple(labels)
        self._class = {label: number for number, label in enumerate(labels)}
        self._tokenizer = tokenizer
        self._plain = PlainText(tokenizer, add_special_tokens=True)
        self._max_length = max_length
        self._own = None if own_metric(metric) is None else OwnScore(metric)
        self._figure = figure_name(metric)
        self._pad_token_id = padding_token(tokenizer)

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
        """Raises DataError: unknown metric, max_new_tokens, stop or chat given, training
        examples of fewer than two classes, a label that is none of `labels` or, without them, of the training examples,
        max_length above the model's limit or too small, a tokenizer without a padding token; OwnScoreError: a function
        of one's own that cannot be had or cannot score.
        """
        if not has_metric(cls, metric):
            raise DataError(f"text_classification has no metric {metric!r}; known: {', '.join(cls.metrics)}")
        if max_new_tokens is not None:
            raise DataError("max_new_tokens has no effect on text_classification; remove it")
        if stop:
            raise DataError("stop has no effect on text_classification; remove it")
        if chat != AS_GIVEN:
            raise DataError("chat settings have no effect on text_classification; remove them")
        found = class_order(example.target for example in splits.train)
        if len(found) < 2:
            raise DataError(f"the training examples have one label only: {found[0]!r}")
        if labels is None:
            labels = found
            who = "that no training example has"
        else:
            who = "that are none of those that data.labels or the adapter tells"
            if others := sorted(set(found) - set(labels)):
                raise DataError(
                    f"the training examples have labels {who}: {', '.join(map(repr, others))}; the data have changed "
                    "since, are read in another way, or are not the adapter's"
                )
        for split in ("validation", "test"):
            unseen = sorted({example.target for example in getattr(splits, split)} - set(labels))
            if unseen:
                raise DataError(f"{split} has labels {who}: {', '.join(map(repr, unseen))}")
        task = cls(labels, tokenizer, length_limit(tokenizer, max_length, model_limit), metric)
        if task._own is not None:
            for split in ("validation", "test"):
                task._own.check(split, getattr(splits, split))
        return task

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self._labels

    @property
    def model_settings(self) -> dict[str, Any]:
        """Number and names of the classes, and the padding token, for `from_pretrained`."""
        return classifier_settings(self._labels, self._pad_token_id)

    @property
    def encoding(self) -> dict[str, Any]:
        """The classes in their order, the limit, the tokenizer."""
        identity = tokenizer_identity(self._tokenizer)
        return {"labels": list(self._labels), "max_length": self._max_length, "tokenizer": identity}

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing: the classes are among the facts of the model."""
        return {}

    def scored(self, example: Example) -> Example:
        """The example itself."""
        return example

    def warnings(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """None."""
        return ()

    def answer_ends(self, model: nn.Module) -> dict[str, int]:
        """None: nothing is generated."""
        return {}

    def encode(self, examples: Sequence[Example], *, prompts: bool = True) -> list[Features]:
        """Features in the order of the examples.

        Raises DataError for an unknown label, a special token that the tokenizer can only read as such, or a tokenizer
        whose token types matter: no model's default would do.
        """
        if not examples:
            return []
        unknown = sorted({example.target for example in examples} - set(self._class))
        if unknown:
            raise DataError(f"labels that no training example has: {', '.join(map(repr, unknown))}")
        if any(self._tokenizer(examples[0].prompt).get("token_type_ids", ())):  # the template's, equal for all texts
            raise DataError(f"{type(self._tokenizer).__name__} gives token types other than 0, which is not supported")
        rows = self._plain.ids(
            [example.prompt for example in examples], [example.prompt_literals for example in examples]
        )
        return [self._features(example, ids) for example, ids in zip(examples, rows, strict=True)]

    def _features(self, example: Example, ids: list[int]) -> Features:
        shortened = Shortened.NOT
        if self._max_length is not None and len(ids) > self._max_length:
            shortened = Shortened.IN_TEXT
            ids = self._plain.shortened(example.prompt, example.prompt_literals, self._max_length)
        return Features(ids, [self._class[example.target]], shortened, example)

    def collate(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` (batch, tokens) and `labels` (batch,).

        No token types: all are 0, which is every model's default, and decoders refuse them.
        """
        batch = pad_inputs([feature.input_ids for feature in features], self._pad_token_id)
        return {**batch, "labels": torch.tensor([feature.targets[0] for feature in features])}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """(cross-entropy summed over the batch, number of examples)."""
        losses, _ = _losses_and_classes(model, batch)
        return losses.sum(), len(losses)

    def evaluate(
        self,
        model: nn.Module,
        features: Sequence[Features],
        batch_size: int,
        device: torch.device | str,
        *,
        generate: bool = True,
    ) -> Outcomes:
        """Loss and accuracy of every example; with them its score by a function of one's own, or the classes where the
        metric is made of all of them together."""
        loss_sums, given = [0.0] * len(features), [0] * len(features)
        with evaluating(model):
            for indices in by_length(features, batch_size):
                batch = to_device(self.collate([features[index] for index in indices]), device)
                losses, classes = _losses_and_classes(model, batch)
                for index, loss, predicted in zip(indices, losses.tolist(), classes.tolist(), strict=True):
                    loss_sums[index], given[index] = loss, predicted
        true = [feature.targets[0] for feature in features]
        scores: dict[str, list[float]] = {"accuracy": [float(a == b) for a, b in zip(given, true, strict=True)]}
        if self._own is not None:
            scores[self._figure] = []
            for predicted, feature in zip(given, features, strict=True):
                assert feature.example is not None  # what is evaluated keeps its texts
                scores[self._figure].append(self._own(self._labels[predicted], feature.example))
        outcomes = Outcomes(loss_sums, [1] * len(features), scores)
        if self._figure not in CORPUS_FIGURES:
            return outcomes
        return replace(outcomes, true_classes=true, predicted_classes=given)


def classifier_settings(labels: Sequence[str], pad_token_id: int) -> dict[str, Any]:
    """What `from_pretrained` is given for a classifier of these classes, in the order of its logits."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "pad_token_id": pad_token_id,
    }


def class_order(labels: Iterable[str]) -> list[str]:
    """The distinct labels in order: by value where all of them are decimal numbers (2 before 10, "01" before "1"),
    otherwise as text."""
    distinct = sorted(set(labels))
    if all(_NUMBER.fullmatch(label) for label in distinct):
        return sorted(distinct, key=Decimal)  # stable: numbers of one value stay in the order of their texts
    return distinct


def _losses_and_classes(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy (batch,) float32 and predicted class (batch,)."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs).logits.float()
    return functional.cross_entropy(logits, batch["labels"], reduction="none"), logits.argmax(dim=-1)
