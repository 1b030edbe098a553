"""What an adapter costs a server that holds others already: its slot, or larger slots for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunedlora.results.figure_text import bytes_text
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.served_slot import NUMBER_BYTES, SERVED_SLOTS, Widths, served_slot, slot_bytes


class ServingError(ValueError):
    """A server that there cannot be, or a record that does not say how wide its base model's layers are."""


@dataclass(frozen=True)
class Server:
    """A running vLLM, by the flags it was started with. Raises ServingError for values that vLLM would not take."""

    max_loras: int
    """Slots on the GPU."""
    max_lora_rank: int
    """Rank that every slot is padded to."""
    dtype: str
    """Of a slot's numbers."""
    embeddings: bool = False
    """Whether its model class adapts the embeddings too (served_slot.py)."""

    def __post_init__(self) -> None:
        if self.max_loras < 1:
            raise ServingError(f"max_loras must be at least 1, got {self.max_loras}")
        if self.max_lora_rank not in SERVED_SLOTS:
            known = ", ".join(map(str, SERVED_SLOTS))
            raise ServingError(f"max_lora_rank {self.max_lora_rank} is none that vLLM takes: {known}")
        if self.dtype not in NUMBER_BYTES:
            raise ServingError(f"dtype {self.dtype!r} is none of {', '.join(NUMBER_BYTES)}")

    def slots_bytes(self, widths: Widths, rank: int) -> int:
        """GPU memory of all slots, were they of this rank."""
        return self.max_loras * slot_bytes(widths, rank, NUMBER_BYTES[self.dtype])


@dataclass(frozen=True)
class ServingCost:
    """What a server needs for an adapter."""

    rank: int | None
    """max_lora_rank that the server needs with the adapter among its tenants; None: no slot is large enough."""
    bytes_before: int
    """Of all slots as the server runs now."""
    bytes_after: int | None
    """Of all slots at `rank`."""

    @property
    def bytes_added(self) -> int | None:
        """What the adapter costs beyond the slot that it takes; 0 where it fits the slots as they are."""
        return None if self.bytes_after is None else self.bytes_after - self.bytes_before


def serving_cost(record: TrialRecord, candidate: Candidate, server: Server) -> ServingCost:
    """What the server needs for a candidate of this record. Raises ServingError as `widths_of`."""
    widths = widths_of(record, embeddings=server.embeddings)
    needed = served_slot(candidate.max_rank)
    rank = None if needed is None else max(needed, server.max_lora_rank)
    return ServingCost(
        rank=rank,
        bytes_before=server.slots_bytes(widths, server.max_lora_rank),
        bytes_after=None if rank is None else server.slots_bytes(widths, rank),
    )


def widths_of(record: TrialRecord, *, embeddings: bool) -> Widths:
    """The layers that a server of this base model holds slots for. Raises ServingError when they are not on record."""
    if record.layer_widths is None or record.embedding_widths is None:
        raise ServingError(
            f"trial {record.key}: the widths of its base model's layers are not on record, because it was recorded by "
            "an older version, fine-tunes all weights, or its base keeps several layers in one tensor (experts)"
        )
    return {**record.layer_widths, **(record.embedding_widths if embeddings else {})}


def refused_heads(candidates: Sequence[Candidate]) -> int:
    """How many of them vLLM would not load: they carry a head of their own, which was trained whole."""
    return sum(candidate.head_params > 0 for candidate in candidates)


def refused_text(candidates: Sequence[Candidate]) -> str:
    """The same as a sentence; empty where vLLM would load them all."""
    refused = refused_heads(candidates)
    return f"vLLM would refuse {refused} of {len(candidates)}: they carry a head of their own." if refused else ""


def slot_sentence(candidate: Candidate) -> str:
    """What vLLM makes of it, as the middle of a sentence: the one thing that page and terminal say of its slot."""
    if refused_heads([candidate]):
        return "vLLM would refuse it, since it carries a head of its own"
    if candidate.served_slot is None:
        return f"no slot of vLLM holds its rank of {candidate.max_rank}"
    memory = "" if candidate.served_slot_bytes is None else f", {bytes_text(candidate.served_slot_bytes)} each"
    return f"vLLM holds it in slots of rank {candidate.served_slot}{memory}"


def short_slot(candidate: Candidate, *, memory: bool) -> str:
    """The same where there is no room for both: the slot's rank, or its `memory` where that is known; "–": refused."""
    if refused_heads([candidate]):
        return "–"
    rank, _, rest = slot_cell(candidate).partition(" (")
    return rest.rstrip(")") or rank if memory else rank


def slot_cell(candidate: Candidate) -> str:
    """The same in a table's cell: "8 (81 KiB)", "refused", "none"."""
    if refused_heads([candidate]):
        return "refused"
    if candidate.served_slot is None:
        return "none"
    memory = "" if candidate.served_slot_bytes is None else f" ({bytes_text(candidate.served_slot_bytes)})"
    return f"{candidate.served_slot}{memory}"
