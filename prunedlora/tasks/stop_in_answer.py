"""Where the generation of a batch stops: once every answer holds a stop text, by transformers' own criterion."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StopStringCriteria

from prunedlora.tasks.data_error import DataError


class StopInAnswer(StoppingCriteria):
    """Stops a row once its answer ends in a stop text. Of the prompt, which may end in one or in half of one, it sees
    nothing. What an answer is does not depend on it: an answer is cut at the text, this only saves the rest."""

    def __init__(self, criteria: StopStringCriteria, prompt_length: int) -> None:
        self._criteria = criteria
        self._prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        """Whether each row (batch,) of `input_ids` (batch, tokens), prompts first, is done."""
        done: torch.BoolTensor = self._criteria(input_ids[:, self._prompt_length :], scores, **kwargs)
        return done


def stop_criteria(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> StopStringCriteria:
    """The criterion for these texts, made once: it walks the vocabulary. Raises DataError for a text that no tokens of
    the vocabulary make."""
    try:
        for text in stop:
            StopStringCriteria(tokenizer, text)
        return StopStringCriteria(tokenizer, list(stop))
    except ValueError as error:
        raise DataError(f"evaluation.stop {text!r} cannot be written by this tokenizer: {error}") from error
