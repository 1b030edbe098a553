"""What a split holds, in figures: lengths, what of them is trained, what was cut, repeated and left out, who speaks."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prunedlora.config.data_section import DataConfig
from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits, repeated
from prunedlora.tasks.task import Task
from prunedlora.tasks.tokenised import TokenisedSplit
from prunedlora.trial.token_cache import SPLITS, SplitName


@dataclass(frozen=True)
class Spread:
    """Of some counts, each of them one that occurs."""

    least: int
    median: int
    p95: int
    most: int


@dataclass(frozen=True)
class Talk:
    """Of the conversations of a split."""

    num_examples: int
    turns: Spread
    """Messages of each."""
    roles: dict[str, int]
    """Role → messages, most first."""
    with_system: float
    """Share of the conversations that have a system prompt of their own."""
    with_tools: float


@dataclass(frozen=True)
class SourceFacts:
    name: str
    weight: float
    num_examples: int | None
    """Different ones in the split; None where examples do not say where they are from."""
    num_per_pass: int | None
    """As often as a pass over the data sees them."""


@dataclass(frozen=True)
class SplitFacts:
    num_examples: int
    num_groups: int | None
    num_tokens: int
    lengths: Spread
    """Tokens of each example."""
    trained: Spread | None
    """Of them trained; None where a class is."""
    trained_share: float | None
    num_cut_in_text: int
    """Examples over the limit that lost tokens."""
    num_cut_at_turns: int
    """Those that lost whole turns and nothing else."""
    num_repeated: int
    """Examples whose prompt is there already."""
    num_duplicates_removed: int
    """Left out, since their prompt is in a split that goes before."""
    num_siblings_removed: int
    """Left out, since their group is, but not their prompt."""
    talk: Talk | None
    sources: tuple[SourceFacts, ...]
    """None of a split that is cut from train."""


def facts_of(data: DataConfig, splits: Splits, name: SplitName, features: TokenisedSplit, task: Task) -> SplitFacts:
    """The figures of one split. `features`: its examples tokenised by `task`."""
    examples: tuple[Example, ...] = getattr(splits, name)
    num_tokens = int(features.lengths.sum())
    trained = features.trained_lengths if task.labels is None else None
    return SplitFacts(
        num_examples=len(examples),
        num_groups=None if splits.num_groups is None else splits.num_groups[name],
        num_tokens=num_tokens,
        lengths=_spread(features.lengths),
        trained=None if trained is None else _spread(trained),
        trained_share=None if trained is None else int(trained.sum()) / num_tokens,
        num_cut_in_text=features.num_truncated - features.num_at_turns,
        num_cut_at_turns=features.num_at_turns,
        num_repeated=repeated(examples),
        num_duplicates_removed=splits.num_duplicates_removed.get(name, 0),
        num_siblings_removed=splits.num_siblings_removed.get(name, 0),
        talk=_talk(examples),
        sources=tuple(_sources(data, name, examples)),
    )


def _spread(counts: np.ndarray) -> Spread:
    least, median, p95, most = np.quantile(counts, [0.0, 0.5, 0.95, 1.0], method="inverted_cdf").tolist()
    return Spread(int(least), int(median), int(p95), int(most))


def _talk(examples: Sequence[Example]) -> Talk | None:
    talks = [example.conversation for example in examples if example.conversation is not None]
    if not talks:
        return None
    roles = Counter(str(message["role"]) for talk in talks for message in talk.messages)
    of_system = sum(any(message["role"] in ("system", "developer") for message in talk.messages) for talk in talks)
    return Talk(
        num_examples=len(talks),
        turns=_spread(np.array([len(talk.messages) for talk in talks])),
        roles=dict(roles.most_common()),
        with_system=of_system / len(talks),
        with_tools=sum(bool(talk.tools) for talk in talks) / len(talks),
    )


def _sources(data: DataConfig, split: SplitName, examples: Sequence[Example]) -> Iterator[SourceFacts]:
    sources = data.sources(split)
    names = [source.name for source in sources]
    seen = Counter(_origin(example) for example in examples)
    different = Counter(_origin(example) for example in {id(example): example for example in examples}.values())
    for source in sources:
        origin, is_told = f"dataset {source.name!r}", "" not in seen and names.count(source.name) == 1
        counts = (different[origin], seen[origin]) if is_told else (None, None)
        yield SourceFacts(source.name, source.weight, *counts)


def _origin(example: Example) -> str:
    return example.place.rpartition(", row ")[0]


def label_counts(splits: Splits) -> dict[str, dict[SplitName, int]]:
    """Class → split → examples, the class of most training examples first."""
    counts = {name: Counter(example.target for example in getattr(splits, name)) for name in SPLITS}
    order = sorted(counts["train"], key=lambda label: (-counts["train"][label], label))
    return {label: {name: counts[name][label] for name in SPLITS} for label in order}
