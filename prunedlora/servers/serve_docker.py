"""LoRAX and TGI, which are handed out as containers: folders are mounted, so that their paths are known.

- https://loraexchange.ai/models/adapters/: a request names the adapter, and where it comes from (`adapter_source`); the
  chat endpoint writes conversations out by the template of a tokenizer beside the adapter, which there is none of, else
  the base's (https://loraexchange.ai/reference/openai_api/), and takes neither options of a template nor ids of ends.
- https://huggingface.co/docs/text-generation-inference/conceptual/lora: `--lora-adapters NAME=PATH`, and a request's
  `model` is the adapter (router/src/lib.rs).
Greedy decoding is temperature 0, but for LoRAX's /v1/completions, which refuses that and is greedy without one
(router/src/lib.rs, validation.rs). Both compute in half precision.
"""

import shlex
from typing import Any

from prunedlora.servers.adapter_shape import Kind
from prunedlora.servers.example_request import Endpoint, ExampleRequest, curl
from prunedlora.servers.handed import Handed, command, flag
from prunedlora.servers.serving_commands import Serving

DTYPES = ("float16", "bfloat16")
MOUNTED = "/adapter"
BASE_MOUNTED = "/base"
URL = "http://localhost:8080"
NO_TEMPLATE = (
    "The server takes no chat template of the adapter's own, nor options of one: write conversations out by the "
    "template and send them to /v1/completions."
)


def lorax(handed: Handed, request: ExampleRequest) -> Serving:
    """LoRAX loads the adapter that a request names."""
    source = "local" if handed.hub is None else "hub"
    start = _run(handed, "ghcr.io/predibase/lorax:main")
    if handed.shape.kind == Kind.MERGED:
        named = {"model": "", "adapter_source": source}
        return Serving("LoRAX", start, request=_asked(handed, request, named), note=_note(handed, request))
    named = {"model": MOUNTED if handed.hub is None else handed.hub, "adapter_source": source}
    return Serving("LoRAX", start, request=_asked(handed, request, named), note=_note(handed, request))


def tgi(handed: Handed, request: ExampleRequest) -> Serving:
    """TGI loads adapters when it starts."""
    image = "ghcr.io/huggingface/text-generation-inference:latest"
    if handed.shape.kind == Kind.MERGED:
        asked = _asked(handed, request, {"model": "tgi"})
        return Serving("TGI", _run(handed, image), request=asked, note=_note(handed, request))
    named = f"{handed.name}={MOUNTED}" if handed.hub is None else handed.hub
    return Serving(
        "TGI",
        command(_run(handed, image), flag("--lora-adapters", named)),
        request=_asked(handed, request, {"model": handed.name if handed.hub is None else handed.hub}),
        note=_note(handed, request),
    )


def _run(handed: Handed, image: str) -> str:
    """The container with the base model in it, and the folders that it needs."""
    base, is_merged = handed.base, handed.shape.kind == Kind.MERGED
    mounts = [f'-v "$PWD":{MOUNTED}'] if handed.hub is None else []
    if is_merged:
        model = [flag("--model-id", MOUNTED if handed.hub is None else handed.hub)]
    else:
        mounts += [f"-v {base.word}:{BASE_MOUNTED}"] if base.is_local else []
        dtype = base.dtype if base.dtype in DTYPES else None
        word = BASE_MOUNTED if base.is_local else base.word
        model = [f"--model-id {word}", flag("--revision", base.revision), flag("--dtype", dtype)]
    return command("docker run --gpus all --shm-size 1g -p 8080:80", *mounts, shlex.quote(image), *model)


def _asked(handed: Handed, request: ExampleRequest, named: dict[str, str]) -> str | None:
    if _note(handed, request) is not None:
        return None
    body: dict[str, Any] = named | request.asked | request.limits
    if request.endpoint == Endpoint.COMPLETIONS and "adapter_source" in named:
        del body["temperature"]
    return curl(f"{URL}{request.endpoint}", body)


def _note(handed: Handed, request: ExampleRequest) -> str | None:
    needs = request.endpoint == Endpoint.CHAT and (handed.template is not None or request.options)
    return NO_TEMPLATE if needs else None
