"""llama.cpp itself, in this process: log probabilities of the next token, with and without adapters.

By xllamacpp, whose wheels hold llama.cpp and its server. All is computed in float32, on one thread.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT = 256


class LlamaCppServer:
    """A base model with adapters beside it, each of which is switched on by the request."""

    def __init__(self, base: Path, adapters: Mapping[str, Path], vocabulary: int) -> None:
        """`base` and `adapters`: GGUF files; `vocabulary`: number of tokens. Raises RuntimeError for what llama.cpp
        does not load (its reason is in the log, on stderr)."""
        import xllamacpp

        settings = xllamacpp.CommonParams()
        settings.model.path = str(base)
        settings.n_ctx, settings.n_parallel = CONTEXT, 1
        settings.warmup = settings.fit_params = settings.cache_prompt = False
        settings.no_extra_bufts = True  # which pack weights anew
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.verbosity = 0
        settings.lora_init_without_apply = True
        settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapters.values()]
        self._names, self._vocabulary = list(adapters), vocabulary
        self._server = xllamacpp.Server(settings)

    def log_probabilities(self, ids: Sequence[int], adapter: str | None) -> NDArray[np.float64]:
        """(vocabulary,), of what follows these tokens; `adapter`: None for the base."""
        scales = [{"id": number, "scale": float(name == adapter)} for number, name in enumerate(self._names)]
        asked = {"prompt": list(ids), "n_predict": 1, "n_probs": self._vocabulary, "temperature": 0.0}
        given = asked | {"post_sampling_probs": False, "cache_prompt": False, "lora": scales}
        answer: dict[str, Any] = self._server.handle_completions(given)
        found = np.full(self._vocabulary, np.nan)
        for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            found[token["id"]] = token["logprob"]
        return found
