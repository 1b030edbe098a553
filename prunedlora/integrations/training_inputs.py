"""What a Trainer's model was given in training passes: how many targets, and one example for a later comparison."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from prunedlora.tasks.batching import IGNORED

MOST_TOKENS = 64
"""Of the example, for a model that gives logits at every token."""
OF_EVERY_TOKEN = {
    *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
    *MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES.values(),
}
"""Classes that make logits of `input_ids` alone, at every token: what an example begins with is an example."""
OF_WHOLE_TEXT = {*MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values()}
"""Classes that make one row of logits of `input_ids` alone, which must be whole: BART and T5 speak at its end token."""


class TrainingInputs:
    """Watches the model's training passes, until `close`."""

    def __init__(self, model: Any) -> None:
        """`model`: a PeftModel."""
        self.example: dict[str, Tensor] | None = None
        """The first example, or what it begins with, (1, tokens), on the CPU; None before the first pass, and for a
        model that takes more than text."""
        self._num_targets: Tensor | int | None = 0
        base = model.get_base_model()
        kind = type(base).__name__
        self._takes_text = kind in OF_EVERY_TOKEN | OF_WHOLE_TEXT
        self._most_tokens = MOST_TOKENS if kind in OF_EVERY_TOKEN else None
        is_causal = LOSS_MAPPING.get(str(getattr(base, "loss_type", None))) is ForCausalLMLoss
        is_shifted = is_causal and not getattr(getattr(base, "config", None), "is_encoder_decoder", False)
        self._first_target = 1 if is_shifted else 0
        self._handle = model.register_forward_pre_hook(self._look, with_kwargs=True)

    def take_num_targets(self) -> int | None:
        """Targets since the last call; None if the model was called without labels, so that nobody can tell.

        As the Trainer counts what it divides a loss by: a causal loss predicts no first token. Labels that were shifted
        by whoever made the batch count as they are.
        """
        taken, self._num_targets = self._num_targets, 0
        return None if taken is None else int(taken)

    def close(self) -> None:
        """Removes the hook; harmless when done twice."""
        self._handle.remove()

    def _look(self, model: nn.Module, _: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        if not (model.training and torch.is_grad_enabled()):
            return
        labels = inputs.get("shift_labels")
        if labels is None and inputs.get("labels") is not None:
            labels = inputs["labels"][..., self._first_target :]
        if labels is None:
            self._num_targets = None
        elif self._num_targets is not None:
            self._num_targets = self._num_targets + (labels != IGNORED).sum()
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if self.example is None and self._takes_text and ids is not None and ids.ndim == 2:
            first = ids[0] if mask is None or mask.ndim != 2 else ids[0][mask[0].bool()]
            self.example = {"input_ids": first[None, : self._most_tokens].cpu()}
