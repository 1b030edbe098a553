"""The servers that there are rules for, and the form in which each applies an adapter as it was trained."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from prunedlora.servers import llama_cpp, lorax, mlx, peft_loader, sglang, tensorrt_llm, vllm
from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind
from prunedlora.servers.treatment import Refused, Treatment, Verdict, verdict


@dataclass(frozen=True)
class Server:
    """One of them."""

    title: str
    """As people write it."""
    treat: Callable[[AdapterShape], Treatment]
    kinds: tuple[Kind, ...]
    """Forms that it may take, the smallest first."""
    rank_block: int = 1
    """What the rank of a uniform adapter must be a multiple of, above `ranks`."""
    ranks: tuple[int, ...] = ()
    """The only ones that it may have up to the last of these, rising."""

    def uniform_rank(self, rank: int) -> int:
        """The smallest rank, no less than `rank`, that a uniform adapter may have."""
        listed = next((each for each in self.ranks if each >= rank), None)
        return -(-rank // self.rank_block) * self.rank_block if listed is None else listed


PADDED = (Kind.TRAINED, Kind.UNIFORM, Kind.MERGED)
SERVERS: Mapping[str, Server] = {
    "peft": Server("PEFT", peft_loader.treat, PADDED),
    "vllm": Server("vLLM", vllm.treat, PADDED),
    "sglang": Server("SGLang", sglang.treat, PADDED),
    "llama.cpp": Server("llama.cpp (Ollama, LM Studio)", llama_cpp.treat, (Kind.GGUF, *PADDED)),
    "lorax": Server("LoRAX, TGI", lorax.treat, PADDED, rank_block=lorax.BLOCK, ranks=lorax.RANKS),
    "tensorrt-llm": Server("TensorRT-LLM", tensorrt_llm.treat, PADDED),
    "mlx": Server("MLX", mlx.treat, (Kind.MERGED,)),
}
"""Name, as `serve_on` and `--serve-on` have it, → the server."""


def in_form(shape: AdapterShape, kind: Kind, server: Server) -> AdapterShape | None:
    """An adapter of its trained ranks in another form, as this server needs that; None where it cannot take it."""
    match kind:
        case Kind.TRAINED:
            return shape
        case Kind.UNIFORM:
            return shape.uniform(server.uniform_rank(shape.rank))
        case Kind.GGUF:
            return shape.of_kind(kind)
        case Kind.MERGED:  # into weights that are kept otherwise nothing can be merged exactly
            return shape.of_kind(kind) if shape.base == Base.PLAIN else None


def served_form(shape: AdapterShape, server: Server) -> AdapterShape | Refused:
    """The smallest form in which the server applies an adapter as it was trained, or why there is none: what it does
    with the first of its forms. `shape`: of kind TRAINED."""
    reasons: list[str] = []
    for kind in server.kinds:
        form = in_form(shape, kind, server)
        if form is None:
            continue
        treatment = server.treat(form)
        if verdict(treatment) in (Verdict.RIGHT, Verdict.RIGHT_IF):
            return form
        reasons.append(getattr(treatment, "why", "applies it wrongly"))
    return Refused(reasons[0] if reasons else "takes no form that this adapter has")


def served_forms(shape: AdapterShape, names: Collection[str]) -> dict[str, AdapterShape | Refused]:
    """The same of several, by name."""
    return {name: served_form(shape, SERVERS[name]) for name in names}


def treatments(shape: AdapterShape) -> dict[str, dict[Kind, Treatment | None]]:
    """Name of each server → each form → what it does with an adapter in it; None where the adapter has no such form.
    `shape`: of kind TRAINED; other forms are made for each server as it needs them (`in_form`)."""
    found: dict[str, dict[Kind, Treatment | None]] = {}
    for name, server in SERVERS.items():
        forms = {kind: in_form(shape, kind, server) for kind in Kind}
        found[name] = {kind: None if form is None else server.treat(form) for kind, form in forms.items()}
    return found
