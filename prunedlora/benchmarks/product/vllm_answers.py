"""Run by the interpreter of vLLM's own environment: a request in one JSON file → vLLM's answers in another.

Imports nothing of ours. The request: `model`, a folder; `rank`, for max_lora_rank; `prompts`, name → ids of tokens;
`adapters`, name → folder. The answers: `version`, and `answers`, name of the adapter ("base" for none) → prompt → log
probabilities (vocabulary,) of the next token, or the text of vLLM's refusal.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# Read when vLLM is imported: one process; on a CPU, a cache of 1 GiB, no pinning of threads.
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """What is said above."""
    vllm: Any = import_module("vllm")
    request: Any = import_module("vllm.lora.request").LoRARequest
    length = max(map(len, asked["prompts"].values())) + 1
    lora = {"enable_lora": True, "max_lora_rank": asked["rank"]} if asked["adapters"] else {}
    model = vllm.LLM(
        model=asked["model"], skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_num_seqs=1,
        max_logprobs=-1, max_model_len=length, max_num_batched_tokens=length, enable_prefix_caching=False, **lora,
    )  # fmt: skip
    loaded: dict[str, Any] = {"base": None}
    answers: dict[str, Any] = {}
    for number, (name, folder) in enumerate(asked["adapters"].items(), start=1):
        loaded[name] = request(name, number, folder)
        try:
            model.llm_engine.add_lora(loaded[name])
        except Exception as error:  # as a request with it would end
            answers[name] = str(error)
            del loaded[name]
    settings = vllm.SamplingParams(max_tokens=1, temperature=0, logprobs=-1, detokenize=False)
    for name, adapter in loaded.items():
        answers[name] = {}
        for prompt, ids in asked["prompts"].items():
            given = {"prompt_token_ids": ids}
            found = model.generate(given, settings, lora_request=adapter, use_tqdm=False)[0].outputs[0].logprobs[0]
            answers[name][prompt] = [found[token].logprob for token in range(len(found))]
    return {"version": vllm.__version__, "answers": answers}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text("utf-8")))), "utf-8")
