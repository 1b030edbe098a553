"""The forms in which an adapter can be handed over."""

from dataclasses import dataclass

from prunedlora.adapters.repack import DTYPES
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate, TrialRecord
from prunedlora.servers.served_slot import SERVED_SLOTS, served_slot


class ExportError(ValueError):
    """An adapter that cannot be exported as asked."""


@dataclass(frozen=True)
class Form:
    """How an adapter is handed over; without anything as it was trained."""

    slot: int | None = None
    """A server's slot: as `uniform`, of that rank."""
    uniform: int | None = None
    """One rank for all layers, and none of an adapted type absent (repack.make_uniform)."""
    dtype: str | None = None
    """A key of repack.DTYPES."""
    merged: bool = False
    """The whole base model with the adapter in its weights, instead of the adapter."""
    gguf: bool = False
    """A GGUF file of the ranks that were trained (gguf_adapter.py), instead of PEFT's folder."""

    @property
    def rank(self) -> int | None:
        """Of every layer; None: each keeps its own."""
        return self.slot or self.uniform

    def slot_of(self, candidate: Candidate) -> int | None:
        """The smallest slot of vLLM that holds the candidate in this form; None when none does."""
        return candidate.served_slot if self.rank is None else served_slot(self.rank)

    def check(self, record: TrialRecord, candidate: Candidate) -> None:
        """Raises ExportError for a form that this candidate cannot take."""
        config = TrialConfig.model_validate(record.config)
        if self.slot is not None and self.uniform is not None:
            raise ExportError("a served slot is one rank for all layers: leave out --uniform or --served-slot")
        if self.slot is not None and self.slot not in SERVED_SLOTS:
            raise ExportError(f"served slot {self.slot} is none of {', '.join(map(str, SERVED_SLOTS))}")
        if self.slot is not None and self.slot < candidate.max_rank:
            raise ExportError(f"served slot {self.slot} does not hold the adapter's largest rank, {candidate.max_rank}")
        if self.uniform is not None and self.uniform < candidate.max_rank:
            raise ExportError(f"rank {self.uniform} does not hold the adapter's largest rank, {candidate.max_rank}")
        if self.merged and self.rank is not None:
            raise ExportError("a merged model has no ranks: leave out --uniform and --served-slot, or --merge")
        if self.gguf and self.rank is not None:
            raise ExportError(
                "a GGUF adapter needs no padding, its layers keep their ranks: leave out --gguf, or --uniform and "
                "--served-slot"
            )
        if self.gguf and self.merged:
            raise ExportError("a merged model has no adapter left: leave out --gguf or --merge")
        if self.gguf and candidate.head_params:
            raise ExportError(
                "a GGUF adapter has no place for a head that was trained with it "
                f"({', '.join(config.head_modules)}): leave out --gguf"
            )
        if self.rank is not None and record.layer_widths is None:
            raise ExportError(
                "one rank for all layers needs the shapes of the layers that the adapter lacks, and the record has "
                "none: it is older than they are, or the base model keeps several layers in one tensor; leave out "
                "--uniform and --served-slot"
            )
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ExportError(f"dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if self.merged and (config.model.quantization or config.model.gguf_file):
            what = config.model.quantization or "GGUF"
            raise ExportError(f"cannot merge into {what} weights; merge into the original model with PEFT")

    def sentence(self) -> str:
        """What was done to it, for its card; empty for an adapter as it was trained."""
        padded = "" if self.rank is None else f"every layer is padded with zeros to rank {self.rank}"
        stored = "" if self.dtype is None else f"it is stored in {self.dtype}"
        as_gguf = "it is a GGUF file, in which every layer keeps its rank" if self.gguf else ""
        return "; ".join(part for part in (padded, as_gguf, stored) if part)


AS_TRAINED = Form()
