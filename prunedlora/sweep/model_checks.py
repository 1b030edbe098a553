"""Whether model, tokenizer, data and adapter fit together, found on the model without its weights."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from prunedlora.adapters.peft_limits import refused_by_peft
from prunedlora.adapters.plain import start_ranks
from prunedlora.adapters.size import served_layers
from prunedlora.adapters.targets import ALL_LINEAR, adaptable, resolve_head
from prunedlora.config.trial import TrialConfig
from prunedlora.pruning.target import Start
from prunedlora.tasks.task import Features, Task
from prunedlora.tasks.tokenised import TokenisedSplit
from prunedlora.training.checkpoint_fit import missing_weights
from prunedlora.training.gradient_checkpointing import can_checkpoint
from prunedlora.training.model import ModelError, check_new_parameters, embedding_rows
from prunedlora.trial.assemble import build_method
from prunedlora.trial.assets import Skeleton
from prunedlora.trial.base_cache import model_settings
from prunedlora.trial.candidates import ADAPTER
from prunedlora.trial.start import Start as ExistingStart
from prunedlora.trial.start import labels_of, left_out_of, names_to_adapt, start_of

MOST_TOKENS = 512
"""Longest example that a batch is tried with."""
NEEDS_WEIGHTS = re.compile(r"\bmeta\b|register_meta", re.IGNORECASE)
"""In torch's words where numbers are asked of a tensor without any."""


@dataclass(frozen=True)
class TokenFacts:
    """What tokenised examples ask of a model."""

    largest_id: int
    tried: tuple[Features, ...]
    """The shortest example, and the longest of at most MOST_TOKENS: for a batch with padding."""


def token_facts(splits: Iterable[TokenisedSplit]) -> TokenFacts:
    """Of all splits of a configuration."""
    every = [split for split in splits if len(split)]
    tried: list[Features] = []
    shortest = min(every, key=lambda split: split.lengths.min())
    tried.append(shortest[int(shortest.lengths.argmin())])
    longest = [split[int(np.where(split.lengths <= MOST_TOKENS, split.lengths, 0).argmax())] for split in every]
    fitting = [feature for feature in longest if len(feature.input_ids) <= MOST_TOKENS]
    if fitting:
        tried.append(max(fitting, key=lambda feature: len(feature.input_ids)))
    return TokenFacts(max(split.largest_id for split in every), tuple(tried))


def check_tokens(trial: TrialConfig, model: PreTrainedModel, facts: TokenFacts) -> None:
    """Raises ModelError for a token of the data that the model's embedding has no row for."""
    rows = embedding_rows(model.config)
    if rows is not None and facts.largest_id >= rows:
        raise ModelError(
            f"the data hold token {facts.largest_id}, but the embedding of model {trial.model.name!r} has {rows} rows: "
            "its tokenizer has tokens that the model does not know; take the tokenizer of the same checkpoint, or save "
            "the model with a row for each (model.resize_token_embeddings(len(tokenizer)))"
        )


def check_attached(
    trial: TrialConfig, task: Task, skeleton: Skeleton, num_steps: int, missing: frozenset[str] | None
) -> Start | None:
    """Attaches the trial's method to the model without its weights, and takes it off again. `missing`: what the
    checkpoint lacks, as far as it is known.

    Its layers as they start, none of full fine-tuning; None, and `skeleton` is spent, where the method computes with
    the weights: then only the trial can tell.

    Raises:
        TargetError: as attaching does; of an adapter that exists, the first module that does not fit.
        ModelError: PEFT, or the method, does not take this model; or the checkpoint lacks a parameter that would not
            train.
        SettingsError: a target or a rung that the layers cannot come to.
    """
    model = skeleton.model
    if trial.model.gradient_checkpointing and not can_checkpoint(model):
        raise ModelError(f"model.gradient_checkpointing: {type(model).__name__} has none; set it to false")
    if trial.evaluation.max_new_tokens is not None and not model.can_generate():
        raise ModelError(f"{type(model).__name__} does not generate: take evaluation.metric loss, or another model")
    method = build_method(trial, num_steps, skeleton.reach.modules)
    try:
        adapted = method.attach(model, ADAPTER)
        if trial.adapter is not None:
            served_layers(adapted)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        if NEEDS_WEIGHTS.search(str(error)):
            method.close()
            return None
        raise ModelError(f"method {trial.method!r} cannot be put on {type(model).__name__}: {error}") from error
    try:
        check_new_parameters(adapted, missing or ())
        return Start(Counter(start_ranks(adapted, ADAPTER)))
    finally:
        method.close()
        method.detach(adapted)


def missing_of(trial: TrialConfig, task: Task) -> frozenset[str] | None:
    """What the configuration's checkpoint lacks (training/checkpoint_fit.py). Raises ModelError, LocationError."""
    return missing_weights(model_settings(trial), task.auto_model, task.model_settings)


def model_warnings(trial: TrialConfig, task: Task, skeleton: Skeleton) -> Iterator[str]:
    """What the adapter leaves out or changes otherwise than one may think, and what of one that exists is not known."""
    if trial.adapter is None:
        return
    start = start_of(trial)
    yield from _unknown_of_start(trial, task, start)
    model, adapter = skeleton.model, trial.adapter
    heads = resolve_head(model, trial.head_modules)
    if adapter.target_modules == ALL_LINEAR and (refused := refused_by_peft(model, adaptable(model, heads))):
        name, reason = next(iter(refused.items()))
        yield f"target_modules {ALL_LINEAR!r} leaves {len(refused)} layers out: {name} {reason}"
    targets = names_to_adapt(trial, skeleton, start)
    if unused := left_out_of(trial, skeleton, start):
        yield (
            f"adapter {adapter.start_from!r}: {len(unused)} of its layers, which do nothing yet (B is zero), are left "
            f"out: the task does not reach {unused[0]}{' and the like' if len(unused) > 1 else ''}"
        )
    modules = dict(model.named_modules())
    tied = [name for name in (*targets, *heads) if _is_tied(model, modules[name])]
    if tied:
        yield (
            f"{tied[0]} has the weights of the other embedding (tied), which the adapter leaves as they are: a merged "
            "model has both, and a server or converter that keeps them tied needs them merged"
        )


def _unknown_of_start(trial: TrialConfig, task: Task, start: ExistingStart | None) -> Iterator[str]:
    if start is None or start.existing is None:
        return
    if not start.base_names:
        yield f"adapter {start.existing.name!r} does not name its base model: whether {trial.model.name!r} is not known"
    if task.labels is not None and trial.head_modules and labels_of(trial, start) is None:
        yield (
            f"adapter {start.existing.name!r} does not say the order of its classes: that it is {list(task.labels)} is "
            "not known; an accuracy far below its own at the first milestone would tell, and data.labels sets the order"
        )


def _is_tied(model: PreTrainedModel, module: nn.Module) -> bool:
    output = model.get_output_embeddings()
    if output is None or embedding_rows(model.config) is None:
        return False
    embedding = model.get_input_embeddings()
    return module in (output, embedding) and bool(model.config.get_text_config().tie_word_embeddings)
