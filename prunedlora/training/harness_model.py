"""A model in memory as lm-evaluation-harness calls it. The only module that imports the harness at its top."""

from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from prunedlora.training.distributed import Workers


class HarnessModel(HFLM):
    """The harness's own model class on a causal language model (with or without an adapter), whose requests are shared
    by all workers: its data parallelism is accelerate's, here it is ours."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        dtype: torch.dtype,
        workers: Workers,
    ) -> None:
        """`dtype`: of autocast, float32 is off. Changes the tokenizer's padding token where it has none."""
        autocast = None if dtype == torch.float32 else dtype
        super().__init__(
            pretrained=model,
            backend="causal",
            tokenizer=tokenizer,
            batch_size=batch_size,
            mixed_precision_dtype=autocast,
        )
        self._workers = workers
        self._rank, self._world_size = workers.rank, workers.num_workers

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Every worker's number."""
        return torch.stack(self._workers.gather(tensor.cpu()))

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Every worker's object, on worker `dst`."""
        gathered = self._workers.gather(obj)
        return gathered if self.rank == dst else None

    def barrier(self) -> None:
        """Waits for all workers."""
        self._workers.gather(None)
