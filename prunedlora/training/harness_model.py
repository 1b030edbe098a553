"""A model in memory as lm-evaluation-harness calls it. The only module that imports the harness at its top."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from prunedlora.training.distributed import Workers
from prunedlora.training.memory import halved, is_out_of_memory
from prunedlora.training.model import release_memory


class HarnessModel(HFLM):
    """The harness's own model class on a causal language model (with or without an adapter), whose requests are shared
    by all workers: its data parallelism is accelerate's, here it is ours."""

    batch_size_per_gpu: int

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        dtype: torch.dtype,
        workers: Workers,
        template_kwargs: Mapping[str, Any],
    ) -> None:
        """`dtype`: of autocast, float32 is off; `template_kwargs`: what a chat template is passed besides. Changes the
        tokenizer's padding token where it has none."""
        autocast = None if dtype == torch.float32 else dtype
        super().__init__(
            pretrained=model,
            backend="causal",
            tokenizer=tokenizer,
            batch_size=batch_size,
            mixed_precision_dtype=autocast,
            chat_template_args=dict(template_kwargs),
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

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """As the harness has it, with halved batches where memory does not suffice."""
        likelihoods: list[tuple[float, bool]] = self._fitting(
            lambda: super(HarnessModel, self)._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        )
        return likelihoods

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """As the harness has it, with halved batches where memory does not suffice."""
        answers: list[str] = self._fitting(lambda: super(HarnessModel, self).generate_until(requests, disable_tqdm))
        return answers

    def _fitting(self, answer: Callable[[], list[Any]]) -> list[Any]:
        """What `answer` gives: no worker waits for another in it, so that each may begin anew. The longest requests go
        first: too little memory shows at once."""
        while True:
            try:
                return answer()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.batch_size_per_gpu == 1:
                    raise
            release_memory(self._workers.device)
            self.batch_size_per_gpu = halved(self.batch_size_per_gpu, 1)
