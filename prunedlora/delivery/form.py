"""The forms in which an adapter can be handed over."""

from dataclasses import dataclass

from prunedlora.adapters.repack import DTYPES
from prunedlora.config.trial import TrialConfig
from prunedlora.results.record import Candidate
from prunedlora.served_slot import SERVED_SLOTS


class ExportError(ValueError):
    """An adapter that cannot be exported as asked."""


@dataclass(frozen=True)
class Form:
    """How an adapter is handed over; without anything as it was trained."""

    slot: int | None = None
    """Rank that every layer is padded to."""
    dtype: str | None = None
    """A key of repack.DTYPES."""
    merged: bool = False
    """The whole base model with the adapter in its weights, instead of the adapter."""

    def check(self, candidate: Candidate, config: TrialConfig) -> None:
        """Raises ExportError for a form that this candidate cannot take."""
        if self.slot is not None and self.slot not in SERVED_SLOTS:
            raise ExportError(f"served slot {self.slot} is none of {', '.join(map(str, SERVED_SLOTS))}")
        if self.slot is not None and self.slot < candidate.max_rank:
            raise ExportError(f"served slot {self.slot} does not hold the adapter's largest rank, {candidate.max_rank}")
        if self.merged and self.slot is not None:
            raise ExportError("a merged model has no ranks: leave out --served-slot or --merge")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ExportError(f"dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if self.merged and (config.model.quantization or config.model.gguf_file):
            what = config.model.quantization or "GGUF"
            raise ExportError(f"cannot merge into {what} weights; merge into the original model with PEFT")

    def sentence(self) -> str:
        """What was done to it, for its card; empty for an adapter as it was trained."""
        padded = "" if self.slot is None else f"every layer is padded with zeros to rank {self.slot}"
        stored = "" if self.dtype is None else f"it is stored in {self.dtype}"
        return "; ".join(part for part in (padded, stored) if part)


AS_TRAINED = Form()
