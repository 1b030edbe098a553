"""What a preflight finds that is worth saying and no error."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prunedlora.adapters.adapted_share import AdaptedShare
from prunedlora.config.data_section import DataConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.planned_size import Planner
from prunedlora.sweep.limits import Limits
from prunedlora.tasks.borders import border_warning
from prunedlora.tasks.example import Example
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import Task
from prunedlora.training.model import load_tokenizer
from prunedlora.trial.base_cache import model_settings

MOST_NAMED = 5


@dataclass(frozen=True)
class Findings:
    """Lines for the plan and for the start of a run, each different one once."""

    data: tuple[str, ...]
    shares: tuple[AdaptedShare, ...]
    """What part of each model is adapted."""
    warnings: tuple[str, ...]
    evaluation: tuple[str, ...]
    """What evaluating takes beside training, for each kind of training (evaluation_cost.py)."""
    fingerprints: tuple[tuple[dict[str, Any], str], ...]
    """Data sections as they are written, by `DataConfig.model_dump`, each with the fingerprint of its examples."""
    planner: Planner
    """What trials of this sweep are planned to leave (trial/planned_sizes.py)."""
    limits: Limits | None
    """How its suggestions stand to its constraints; None: there are none."""


def data_line(splits: Splits) -> str:
    """How many examples, and groups where there are some, are in each split, how many of several sources of train, and
    how many were left out."""
    groups = splits.num_groups
    parts = []
    for split in ("train", "validation", "test"):
        count = f"{len(getattr(splits, split)):,} {split}"
        parts.append(count if groups is None else f"{count} ({groups[split]:,} groups)")
    left_out = [
        f"{counts[split]:,} {kind} from {split}"
        for split in ("train", "validation")
        for kind, counts in (("repeated", splits.num_duplicates_removed), ("of a group", splits.num_siblings_removed))
        if counts[split]
    ]
    ending = f"; left out, being in another split: {', '.join(left_out)}" if left_out else ""
    return ", ".join(parts) + _sources(splits) + ending


def _sources(splits: Splits) -> str:
    if not splits.train_sources:
        return ""
    parts = [
        f"{count.num_per_pass:,} of {count.name!r}"
        + ("" if count.weight == 1 else f" ({count.num_examples:,} different, weight {count.weight:g})")
        for count in splits.train_sources
    ]
    return f"; each pass over train has {', '.join(parts)}"


def _is_plain(example: Example, source: str) -> bool:
    """Whether it is a prompt and a target of this source, one behind the other."""
    whole = example.conversation is None and example.segments is None
    return whole and example.place.startswith(f"dataset {source!r}, row ")


def warnings_of(trial: TrialConfig, splits: Splits, task: Task) -> Iterator[str]:
    """What of the training examples is not learnt as it is evaluated (task.warnings), where prompts and targets do not
    meet as in a text, and which classes a split has no example of."""
    yield from task.warnings(splits.train)
    data = trial.data
    if task.labels is None:
        tokenizer = load_tokenizer(model_settings(trial))
        for name in ("train", "validation", "test"):
            for source in data.sources(name):
                if data.chat_template not in (None, "none"):
                    continue  # a chat template says how they meet
                examples = [example for example in getattr(splits, name) if _is_plain(example, source.name)]
                found = border_warning(source.prompt, source.target, examples, tokenizer)
                if found:
                    yield f"data.{name}: {found}"
        return
    yield from _class_warnings(data, splits, task.labels)


def _class_warnings(data: DataConfig, splits: Splits, labels: Sequence[str]) -> Iterator[str]:
    """Which classes the training examples, or those of a split, have no example of."""
    trained = {example.target for example in splits.train}
    if absent := [label for label in labels if label not in trained]:
        yield f"train has no example of {_of(absent, labels)}: what it is of them, the data do not show"
    for name, number in (("validation", data.num_validation), ("test", data.num_test)):
        there = {example.target for example in getattr(splits, name)}
        missing = [label for label in labels if label in trained - there]
        if missing and number is not None:
            yield (
                f"{name} has no example of {len(missing)} of {len(trained)} classes, as data.stratify: false "
                "allows; true gives every class its share"
            )
        elif len(there) == 1:
            yield f"{name} has examples of one class only, {min(there)!r}: what it measures says nothing of the others"
        elif missing:
            yield f"{name} has no example of {_of(missing, labels)}"


def _of(some: Sequence[str], labels: Sequence[str]) -> str:
    more = ", …" if len(some) > MOST_NAMED else ""
    return f"{len(some)} of {len(labels)} classes ({', '.join(map(repr, some[:MOST_NAMED]))}{more})"
