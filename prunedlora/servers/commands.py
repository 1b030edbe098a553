"""The commands that serve an adapter on each server, and a request that it answers as it was measured.

Only for forms that a server applies right (its rule says which). A server that has several programs has one entry for
each. Pure functions of names and shapes; nothing here is run.
"""

from collections.abc import Callable, Mapping

from prunedlora.servers.adapter_shape import Base, Kind
from prunedlora.servers.example_request import Endpoint, ExampleRequest
from prunedlora.servers.handed import Handed
from prunedlora.servers.serve_docker import lorax, tgi
from prunedlora.servers.serve_llama_cpp import llama_server, ollama
from prunedlora.servers.serve_python import mlx, sglang, tensorrt_llm, vllm
from prunedlora.servers.serving_commands import Serving

PROGRAMS: Mapping[str, tuple[Callable[[Handed, ExampleRequest], Serving], ...]] = {
    "peft": (),  # the card's Python
    "vllm": (vllm,),
    "sglang": (sglang,),
    "llama.cpp": (llama_server, ollama),
    "lorax": (lorax, tgi),
    "tensorrt-llm": (tensorrt_llm,),
    "mlx": (mlx,),
}
"""Name of the server, as in known.py → what serves."""


def servings(name: str, handed: Handed, request: ExampleRequest) -> list[Serving]:
    """The programs that serve it as the server called `name`, the usual one first; none where none is known to: PEFT,
    which is no server; adapters of classes, but for merged models on vLLM; adapters of a GGUF base, but on llama.cpp.
    """
    if request.endpoint == Endpoint.CLASSIFY and not (name == "vllm" and handed.shape.kind == Kind.MERGED):
        return []
    if handed.shape.base == Base.GGUF and name != "llama.cpp":
        return []
    return [program(handed, request) for program in PROGRAMS[name]]
