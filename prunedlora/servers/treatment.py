"""What a server does with an adapter: applies it, layer by layer, refuses it, or nobody has looked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.decoder_layers import strange_layers

HEAD = "head"
"""What stands for modules that were trained whole whose names are not on record."""


@dataclass(frozen=True)
class Applied:
    """It loads."""

    factors: Mapping[str, float]
    """Layer → what the server multiplies the update B A that was trained by: 1, or 0 where it drops the layer. Modules
    that were trained whole stand among them where they are dropped (HEAD where their names are not on record)."""
    needs: str | None = None
    """What has to hold besides, which no file says: a flag, a version; None: nothing."""


@dataclass(frozen=True)
class Refused:
    """It does not load, or fails as soon as it is used."""

    why: str


@dataclass(frozen=True)
class NotKnown:
    """Neither its sources nor a trial have told."""

    why: str


Treatment = Applied | Refused | NotKnown


class Verdict(StrEnum):
    """A member's text is what card, certificate and pages say."""

    RIGHT = "right"
    RIGHT_IF = "right if"
    WRONG = "wrong"
    REFUSED = "refused"
    NOT_KNOWN = "not known"


def verdict(treatment: Treatment) -> Verdict:
    """In one word."""
    match treatment:
        case Applied(factors, needs):
            if any(factor != 1 for factor in factors.values()):
                return Verdict.WRONG
            return Verdict.RIGHT if needs is None else Verdict.RIGHT_IF
        case Refused():
            return Verdict.REFUSED
        case NotKnown():
            return Verdict.NOT_KNOWN


def as_trained(shape: AdapterShape, needs: str | None = None) -> Applied:
    """Every layer as it was trained."""
    return Applied(dict.fromkeys(shape.ranks, 1.0), needs)


def without_head(shape: AdapterShape, factors: Mapping[str, float], needs: str | None = None) -> Applied:
    """Layers by these factors, and modules that were trained whole, where there are any, dropped without a word."""
    dropped = (shape.head_names or (HEAD,)) if shape.head_params else ()
    return Applied({**factors, **dict.fromkeys(dropped, 0.0)}, needs)


def no_peft_folder(shape: AdapterShape) -> Treatment | None:
    """Of the forms that are no PEFT folder, for a server that reads models and PEFT folders; None for those."""
    if shape.kind == Kind.GGUF:
        return Refused("reads no GGUF adapters")
    return merged(shape) if shape.kind == Kind.MERGED else None


def merged(shape: AdapterShape) -> Treatment:
    """Of a whole model: one like its base, but that of a classifier is another class of model."""
    if shape.head_params:
        return NotKnown("nobody has tried a merged model with a trained head")
    if shape.is_classifier:
        return NotKnown("nobody has tried a merged model that gives classes and no text")
    return as_trained(shape)


def not_looked_at(shape: AdapterShape, known: Collection[str]) -> NotKnown | None:
    """For adapters with layers that are no projections of `known`; None for others."""
    strange = strange_layers(shape.ranks, known)
    return NotKnown(f"nobody has looked at layers such as {strange[0]}") if strange else None
