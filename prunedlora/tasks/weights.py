"""Several sources of train: how often the examples of each come in one pass over the data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source, shuffle_key


@dataclass(frozen=True)
class SourceCount:
    """What one of several sources gives to the training split."""

    name: str
    weight: float
    num_examples: int
    """Different examples that are trained on."""
    num_per_pass: int
    """How many a pass over the data sees, repeated ones counted as often as they come."""


def weighted(
    examples: Sequence[Example], origins: Mapping[int, int], sources: Sequence[Source], seed: int
) -> tuple[list[Example], tuple[SourceCount, ...]]:
    """The examples of one pass, and what each source gives to it. `origins`: id of an example → number of its source.

    Of n examples of a source of weight w a pass has round(w · n): each of them floor(w) times, and what is missing then
    is a sample of them, the first in the order of sha256(seed, example). All come once before any comes again. Training
    shuffles each pass.

    Raises DataError for a source of which nothing is left.
    """
    times: dict[int, int] = {}
    counts = []
    for number, source in enumerate(sources):
        own = [example for example in examples if origins[id(example)] == number]
        if not own:
            raise DataError(f"no train example of source {source.name!r} is left: all are in another split as well")
        total = round(source.weight * len(own))
        if total == 0:
            raise DataError(
                f"weight {source.weight:g} leaves none of the {len(own)} train examples of source {source.name!r}; "
                f"it must be above {0.5 / len(own):g}"
            )
        whole, more = divmod(total, len(own))
        ordered = sorted(own, key=lambda each: shuffle_key(seed, json.dumps([each.prompt, each.target])))
        times |= {id(example): whole + (place < more) for place, example in enumerate(ordered)}
        counts.append(SourceCount(source.name, source.weight, min(total, len(own)), total))
    rounds = range(max(times.values()))
    return [example for turn in rounds for example in examples if times[id(example)] > turn], tuple(counts)
