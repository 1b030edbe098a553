"""Generation: a causal language model reads the prompt and writes the answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteriaList

from prunedlora.metric_kinds import figure_name, has_metric, is_generating
from prunedlora.registry import register
from prunedlora.tasks.batching import IGNORED, by_length, evaluating, pad, pad_inputs, to_device
from prunedlora.tasks.chat.conversations import Conversations
from prunedlora.tasks.chat.kinds import PLAIN, SEGMENTS, TEMPLATED, check_chat_settings, kind_of, plainly
from prunedlora.tasks.chat.template_findings import MOST_LOOKED_AT
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.outcomes import Outcomes
from prunedlora.tasks.plain_examples import PlainReader
from prunedlora.tasks.scoring import SCORERS, check_scorable, cut_at, scorer_of
from prunedlora.tasks.segments import SegmentReader
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.stop_in_answer import StopInAnswer, stop_criteria
from prunedlora.tasks.target_losses import target_losses
from prunedlora.tasks.task import AS_GIVEN, INPUTS, ChatSettings, Features, length_limit, padding_token
from prunedlora.tasks.tokenizer_identity import tokenizer_identity


@register("task", "generation")
class Generation:
    """The loss is over the answer and the token that ends it only. Plain examples are prompt and answer one behind the
    other (plain_examples.py). Conversations are what a chat template makes of them (chat/), and so are plain examples
    where one is asked for by name; of segments (segments.py) those are trained that the data mark. Where answers are
    generated, prompts leave room for `max_new_tokens` within the limit.
    """

    metrics: ClassVar[tuple[str, ...]] = (*SCORERS, "loss")
    generating_metrics: ClassVar[tuple[str, ...]] = tuple(SCORERS)
    has_classes: ClassVar[bool] = False
    auto_model: ClassVar[str] = "AutoModelForCausalLM"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        metric: str,
        max_length: int | None,
        max_new_tokens: int | None,
        stop: Sequence[str] = (),
        chat: ChatSettings = AS_GIVEN,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise DataError(f"tokenizer {tokenizer.name_or_path!r} has no end-of-text token, answers could not end")
        self._tokenizer = tokenizer
        self._scorer, self._figure = scorer_of(metric), figure_name(metric)
        self._max_length = max_length
        self._max_new_tokens = max_new_tokens
        self._stop = tuple(stop)
        self._stop_criteria = stop_criteria(tokenizer, self._stop) if stop else None
        self._chat = chat
        self._has_templated = False
        self._turn_ends: list[int] = []
        self._pad_token_id = padding_token(tokenizer)
        bos = tokenizer.bos_token_id
        prefix = [bos] if bos is not None and tokenizer("a")["input_ids"][0] == bos else []
        if max_length is not None and max_length < len(prefix) + 1 + (max_new_tokens or 1):
            raise DataError(
                f"max_length {max_length} leaves no room for a prompt beside an answer of {max_new_tokens or 1} tokens"
            )
        self._prefix = prefix
        self._plain = PlainReader(tokenizer, prefix, max_length, max_new_tokens)
        self._segments = SegmentReader(tokenizer, prefix, max_length, max_new_tokens)

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
        """Raises DataError: unknown metric, max_new_tokens missing or without effect, stop without effect or of what
        the tokenizer cannot write, examples that the metric cannot score (or not once cut at a stop text), max_length
        above the model's limit, a tokenizer without an end-of-text token, targets that spell it at their end, classes
        on record, chat settings without effect, conversations that the chat template does not take.
        """
        if labels is not None:
            raise DataError(f"generation has no classes, but the record names some: {', '.join(map(repr, labels))}")
        if not has_metric(cls, metric):
            raise DataError(f"generation has no metric {metric!r}; known: {', '.join(cls.metrics)}")
        generates = is_generating(cls, metric)
        if generates != (max_new_tokens is not None):
            raise DataError(f"max_new_tokens is {'needed' if generates else 'without effect'} for metric {metric!r}")
        if stop and not generates:
            raise DataError(f"stop is without effect for metric {metric!r}")
        task = cls(tokenizer, metric, length_limit(tokenizer, max_length, model_limit), max_new_tokens, stop, chat)
        parts = {split: getattr(splits, split) for split in ("train", "validation", "test")}
        everything = [example for examples in parts.values() for example in examples]
        check_chat_settings(chat, everything)
        task._has_templated = any(kind_of(example, chat) == TEMPLATED for example in everything)
        for split, examples in parts.items():
            for example in examples:
                task._check(split, example)
        task._turn_ends = task._ends_of_turns(splits.train)
        ends = task.ends
        for example in everything if task._has_templated else ():
            if kind_of(example, chat) == TEMPLATED:
                task._conversations.check_answers(example, ends)
        for split in ("validation", "test") if generates else ():
            if any(example.segments and not example.prompt for example in parts[split]):
                raise DataError(f"metric {metric!r} asks for answers, and a text of {split} has no prompt: give loss")
            scored = tuple(task.scored(example) for example in parts[split])
            check_scorable(metric, split, scored, stop, task._scorer)
        return task

    @property
    def labels(self) -> None:
        """No classes."""
        return None

    @property
    def model_settings(self) -> dict[str, Any]:
        """Nothing: the model's own config fits."""
        return {}

    @property
    def encoding(self) -> dict[str, Any]:
        """The limit, the room that an answer gets, the tokenizer, how conversations are written out and what of them is
        trained."""
        room = None if self._max_length is None else self._max_new_tokens
        return {
            "max_length": self._max_length,
            "room": room,
            "tokenizer": tokenizer_identity(self._tokenizer),
            "chat": self._conversations.identity if self._has_templated else self._chat.template,
        }

    @property
    def ends(self) -> tuple[str, ...]:
        """The tokens that end an answer: of the end of the text, then those that end the assistant's turns in the
        training conversations."""
        return tuple(map(str, self._tokenizer.convert_ids_to_tokens(self._end_ids)))

    @property
    def _end_ids(self) -> list[int]:
        return list(dict.fromkeys([int(self._tokenizer.eos_token_id), *self._turn_ends]))

    @cached_property
    def _conversations(self) -> Conversations:
        return Conversations(self._tokenizer, self._chat, self._max_length, self._max_new_tokens)

    @property
    def facts(self) -> dict[str, Any]:
        """The token before every prompt that no template writes, None without one; how conversations were written out,
        where the data have any, and what ends an answer in them: token → id."""
        first = self._prefix and str(self._tokenizer.convert_ids_to_tokens(self._prefix[0]))
        found: dict[str, Any] = {"begins_with": first or None}
        if not self._has_templated:
            return found
        ends = {str(self._tokenizer.convert_ids_to_tokens(end)): end for end in self._end_ids}
        return found | {"chat": {"template": self._conversations.template, "ends": ends}}

    def answer_ends(self, model: nn.Module) -> dict[str, int]:
        """Token → id, rising: the ends of the data and the model's own. A token that the tokenizer lacks is called by
        its id."""
        own: Any = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        others = [] if own is None else own if isinstance(own, list) else [own]
        ids = sorted({*self._end_ids, *others})
        return {str(self._tokenizer.convert_ids_to_tokens(end) or end): end for end in ids}

    def encode(self, examples: Sequence[Example], *, prompts: bool = True) -> list[Features]:
        """Features in the order of the examples."""
        kinds: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            kinds.setdefault(kind_of(example, self._chat), []).append(index)
        features: dict[int, Features] = {}
        for kind, indices in kinds.items():
            chosen = [examples[index] for index in indices]
            if kind == TEMPLATED:
                made = self._conversations.encode(chosen, prompts=prompts)
            elif kind == SEGMENTS:
                made = self._segments.encode(chosen, prompts=prompts)
            else:
                made = self._plain.encode([plainly(example) for example in chosen])
            features.update(zip(indices, made, strict=True))
        return [features[index] for index in range(len(examples))]

    def scored(self, example: Example) -> Example:
        """The example with the target that its answer is scored against: of what a chat template writes, the text of
        the assistant's last turn in it; of segments that spell special tokens, their text without them. Raises
        DataError as `encode`."""
        if kind_of(example, self._chat) == TEMPLATED:
            return replace(example, target=self._conversations.answer(example))
        if example.segments is not None:
            return replace(example, target=self._segments.answer(example))
        return example

    def warnings(self, examples: Sequence[Example]) -> Iterator[str]:
        """What a chat template does with training examples, and answers that are not taught to end. Raises DataError as
        `encode`."""
        chosen = examples[:MOST_LOOKED_AT]
        if templated := [example for example in chosen if kind_of(example, self._chat) == TEMPLATED]:
            yield from self._conversations.warnings(templated)
        segments = [example for example in chosen if example.segments is not None]
        endless = sum(not self._segments.is_ended(example) for example in segments)
        if endless and self._scorer is not None:
            yield (
                f"in {endless} of {len(segments)} rows of segments looked at the last segment is not trained and no "
                "special token ends the one before, so that the model is not taught to stop: answers go on to "
                "evaluation.max_new_tokens; end rows in a trained segment"
            )

    def _ends_of_turns(self, examples: Sequence[Example]) -> list[int]:
        templated = [example for example in examples if kind_of(example, self._chat) == TEMPLATED]
        ends = set(self._conversations.ends(templated) if templated else ())
        return sorted(ends.union(self._segments.ends(examples)))

    def _check(self, split: str, example: Example) -> None:
        """Raises DataError for special tokens where none may be."""
        kind = kind_of(example, self._chat)
        if kind == SEGMENTS:
            self._segments.check(example)
        elif kind == PLAIN:
            self._plain.check(split, plainly(example))
        else:
            self._plain.check_literals(split, example, templated=True)

    def collate(self, features: Sequence[Features]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `labels`, each (batch, tokens), padded on the right, and `positions`
        (targets,): where in batch × tokens, flattened, a token stands whose next one is a target.

        `labels` holds the targets at their positions and -100 on everything else; it is made from positions, so that an
        end-of-text token counts as a target even where padding has the same id.
        """
        batch = pad_inputs([feature.input_ids for feature in features], self._pad_token_id)
        width = batch["input_ids"].shape[1]
        labels = [[IGNORED] * len(f.input_ids) for f in features]
        positions: list[int] = []
        for row, f in enumerate(features):
            for begin, end in f.spans:
                labels[row][begin:end] = f.input_ids[begin:end]
                positions += range(row * width + max(begin, 1) - 1, row * width + end - 1)  # nothing predicts 0
        return {**batch, "labels": pad(labels, IGNORED), "positions": torch.tensor(positions, dtype=torch.int64)}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """(cross-entropy summed over the tokens of all answers, number of these tokens)."""
        losses, rows = _token_losses(model, batch)
        return losses.sum(), len(rows)

    def evaluate(
        self,
        model: nn.Module,
        features: Sequence[Features],
        batch_size: int,
        device: torch.device | str,
        *,
        generate: bool = True,
    ) -> Outcomes:
        """Loss of every example and, for a metric that generates, the score of its generated answer."""
        loss_sums, num_targets, scores = [0.0] * len(features), [0] * len(features), [0.0] * len(features)
        scorer = self._scorer if generate else None
        with evaluating(model):
            for indices in by_length(features, batch_size):
                chosen = [features[index] for index in indices]
                batch = to_device(self.collate(chosen), device)
                losses, rows = _token_losses(model, batch)
                sums = torch.zeros(len(chosen), dtype=torch.float64, device=losses.device)
                sums = sums.index_add_(0, rows, losses.double())
                counts = torch.bincount(rows, minlength=len(chosen))
                for index, total, count in zip(indices, sums.tolist(), counts.tolist(), strict=True):
                    loss_sums[index], num_targets[index] = total, count
                if scorer is not None:
                    for index, answer in zip(indices, self.generate(model, chosen, device), strict=True):
                        example = features[index].example
                        assert example is not None  # what is evaluated keeps its texts
                        scores[index] = float(scorer(answer, self.scored(example)))
        return Outcomes(loss_sums, num_targets, {} if scorer is None else {self._figure: scores})

    def generate(self, model: nn.Module, features: Sequence[Features], device: torch.device | str) -> list[str]:
        """The greedy answer to each prompt, special tokens removed, at most `max_new_tokens` long, cut at the first of
        the stop texts. One batch.

        Prompts are padded on the left. Whatever the model's own generation config says beyond its end-of-text tokens
        (sampling, repetition penalties) is put aside: the answers depend on the weights alone.
        """
        prompts = [feature.prompt for feature in features]
        batch = to_device(pad_inputs(prompts, self._pad_token_id, side="left"), device)
        prompt_length = batch["input_ids"].shape[1]
        stopping = [] if self._stop_criteria is None else [StopInAnswer(self._stop_criteria, prompt_length)]
        with _generation_config(model, self._greedy(model)):
            output: Tensor = model.generate(**batch, stopping_criteria=StoppingCriteriaList(stopping))  # type: ignore[operator]
        rows = [self._before_end(row) for row in output[:, prompt_length:].tolist()]
        answers = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [cut_at(str(answer), self._stop) for answer in answers]

    def _before_end(self, row: list[int]) -> list[int]:
        """A generated row up to the token that ends a turn, which need not be a special one."""
        return list(takewhile(lambda token: token not in self._end_ids, row))

    def _greedy(self, model: nn.Module) -> GenerationConfig:
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=self._max_new_tokens,
            pad_token_id=self._pad_token_id,
            eos_token_id=list(self.answer_ends(model).values()),
        )


def _token_losses(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy (targets,) of every target token, in at least float32, and the row (targets,) that it is in."""
    labels, positions = batch["labels"], batch["positions"]
    targets = labels.flatten().index_select(0, positions + 1)  # the logits at a position predict the next token
    losses = target_losses(model, {name: batch[name] for name in INPUTS}, positions, targets)
    return losses, positions // labels.shape[1]


@contextmanager
def _generation_config(model: nn.Module, config: GenerationConfig) -> Iterator[None]:
    """Sets the generation config of the model, and of the models it wraps, for a while.

    A config passed to `generate` does not do: its unset fields are taken from the model's.
    """
    holders = [(module, module.generation_config) for module in model.modules() if "generation_config" in vars(module)]
    for module, _ in holders:
        module.generation_config = config  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, before in holders:
            module.generation_config = before
