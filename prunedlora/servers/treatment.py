"""What a server does with an adapter: applies it, layer by layer, refuses it, or nobody has looked."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prunedlora.servers.adapter_shape import AdapterShape


@dataclass(frozen=True)
class Applied:
    """It loads."""

    factors: Mapping[str, float]
    """Layer → what the server multiplies the update B A that was trained by: 1, or 0 where it drops the layer."""
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
