"""Train, validation and test examples, with no prompt in two of them. No torch here."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from itertools import combinations

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.sources import Example, Source, load_examples, shuffle_key


@dataclass(frozen=True)
class Splits:
    """The examples of all splits, as training and evaluation see them."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    num_duplicates_removed: dict[str, int]
    """Split → examples left out because their prompt is in a split that goes before (test, validation, train)."""
    fingerprint: str
    """sha256 over the examples of all splits in their order."""


def load_splits(
    train: Source,
    validation: Source | None,
    test: Source | None,
    num_validation: int | None,
    num_test: int | None,
    split_seed: int,
) -> Splits:
    """The three splits, each from its source or cut from train, the same on every machine.

    A prompt that occurs in two splits stays in test rather than validation, and in validation rather than train. A cut
    takes prompts, one example of each, in the order of sha256(split_seed, prompt): copies of a prompt cannot end up on
    both sides, and growing the source moves few examples. Repeated prompts inside one split are left alone.

    Raises DataError: whatever `load_examples` raises, a split with neither or both of source and number, too few
    distinct prompts for the cuts, generated sources whose seeds overlap, a split without examples once duplicates are
    removed.
    """
    for split, source, number in (("validation", validation, num_validation), ("test", test, num_test)):
        if (source is None) == (number is None):
            raise DataError(f"give exactly one of {split} (a source) and num_{split} (cut from train)")
    _check_seeds([source for source in (train, validation, test) if source is not None])
    pool = load_examples(train, split_seed)
    cut = partial(_cut, source=train, seed=split_seed)
    num_cut = (num_validation or 0) + (num_test or 0)

    test_kept = cut(pool, "test", num_test) if test is None else load_examples(test, split_seed)
    rest = _without(pool, test_kept)
    if validation is None:
        validation_loaded = validation_kept = cut(rest, "validation", num_validation)
    else:
        validation_loaded = load_examples(validation, split_seed)
        validation_kept = _without(validation_loaded, test_kept)
    train_kept = _without(rest, validation_kept)

    removed = {
        "train": len(pool) - num_cut - len(train_kept),
        "validation": len(validation_loaded) - len(validation_kept),
        "test": 0,
    }
    for split, kept in (("validation", validation_kept), ("train", train_kept)):
        if not kept:
            raise DataError(f"no {split} example is left: all {removed[split]} prompts are in another split as well")
    splits = (tuple(train_kept), tuple(validation_kept), tuple(test_kept))
    return Splits(*splits, num_duplicates_removed=removed, fingerprint=_fingerprint(*splits))


def _check_seeds(sources: list[Source]) -> None:
    """Generators of reasoning-gym make example i from seed + i: seeds 0 and 1 give the same examples but for one."""
    generated = [s for s in sources if s.seed is not None and s.num_examples is not None]
    for one, other in combinations(sorted(generated, key=lambda s: s.seed or 0), 2):
        distance = (other.seed or 0) - (one.seed or 0)
        if (one.name, one.options) == (other.name, other.options) and distance < (one.num_examples or 0):
            raise DataError(
                f"seeds {one.seed} and {other.seed} of {one.name!r} give the same examples: example i is made from "
                f"seed + i, so {one.num_examples} examples need the next seed at least that far away"
            )


def _cut(pool: list[Example], split: str, number: int | None, source: Source, seed: int) -> list[Example]:
    first: dict[str, Example] = {}
    for example in pool:
        first.setdefault(example.prompt, example)
    if number is None or number >= len(first):
        raise DataError(
            f"cannot cut {number} {split} examples from train source {source.name!r}: "
            f"it has {len(first)} distinct prompts left and at least one must stay for training"
        )
    chosen = sorted(first, key=partial(shuffle_key, seed))[:number]
    return [first[prompt] for prompt in chosen]


def _without(examples: list[Example], others: list[Example]) -> list[Example]:
    prompts = {example.prompt for example in others}
    return [example for example in examples if example.prompt not in prompts]


def _fingerprint(*splits: tuple[Example, ...]) -> str:
    digest = hashlib.sha256()
    for number, examples in enumerate(splits):
        for example in examples:
            digest.update(json.dumps([number, example.prompt, example.target]).encode())
    return digest.hexdigest()
