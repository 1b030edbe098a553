"""Train, validation and test examples, with no prompt, dialogue or group in two of them. No torch here."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, islice
from typing import Any, Literal

from prunedlora.tasks.class_shares import class_shares
from prunedlora.tasks.continuations import with_units
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.sources import Source, load_examples, shuffle_key
from prunedlora.tasks.weights import SourceCount, weighted

Cut = Literal["random", "complete", "stratified"]
"""How splits are cut from train: at random; at random and refused where a class is left out of a split; by classes, in
proportion to their sizes."""
MOST_NAMED = 5


@dataclass(frozen=True)
class Splits:
    """The examples of all splits, as training and evaluation see them."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    num_duplicates_removed: dict[str, int]
    """Split → examples left out because their prompt, or a part of their dialogue, is in a split that goes before
    (test, validation, train)."""
    fingerprint: str
    """sha256 over the examples of all splits in their order, with all that decides their tokens and scores but the
    templates' own words."""
    num_siblings_removed: dict[str, int] = field(default_factory=dict)
    """Split → examples left out because their group, but neither prompt nor dialogue, is in a split that goes
    before."""
    train_sources: tuple[SourceCount, ...] = ()
    """Of several sources of train: what each gives to `train`, in which examples come as often as in one pass."""

    @property
    def num_groups(self) -> dict[str, int] | None:
        """Split → different groups in it; None where the sources have no groups."""
        if self.train[0].group is None:
            return None
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: len({example.group for example in examples}) for split, examples in splits.items()}


def load_splits(
    train: Source | Sequence[Source],
    validation: Source | Sequence[Source] | None,
    test: Source | Sequence[Source] | None,
    num_validation: int | None,
    num_test: int | None,
    split_seed: int,
    cut: Cut = "random",
) -> Splits:
    """The three splits, each from its source or cut from train, the same on every machine.

    A prompt or group that occurs in two splits stays in test rather than validation, and in validation rather than
    train. Of conversations equal prompts have the same messages (role, content, called functions), whatever their
    system prompts, tools and other keys; and where a row's whole dialogue is how another's begins, as in files with one
    row for every turn of the assistant's, both count as one prompt, with all that belongs to either (continuations.py).
    So no answer of validation or test stands behind its prompt in a dialogue that is trained on, and groups do not
    change that. Dialogues that open alike and then differ are different; where they must stay together, as threads that
    branch, give groups.

    A cut takes groups (prompts, where the source has no groups), one example of each, so that its examples are
    independent; the others of it are in no split. It takes them in the order of sha256(split_seed, group), so that
    growing the source moves few; a stratified one in that order within each class. Repeated prompts and groups inside
    one split are left alone.

    The examples of several sources are mixed by the seed, so that any beginning of a split is a fair sample of them.
    Those of train are cut and parted from other splits first, and then come as often as the weights say (weights.py).

    Raises DataError: whatever `load_examples` raises, a split with neither or both of source and number, groups for
    some sources only, too few prompts or groups for the cuts (or of a class for stratified ones), a class that a cut
    leaves out (not where `cut` is random), generated sources whose seeds overlap, a split without examples once
    duplicates and siblings are removed; of several sources of train, one of which none is left, or a weight that leaves
    none of a class.
    """
    for split, source, number in (("validation", validation, num_validation), ("test", test, num_test)):
        if (source is None) == (number is None):
            raise DataError(f"give exactly one of {split} (a source) and num_{split} (cut from train)")
    trains = _several(train)
    sources = [*trains, *_several(validation), *_several(test)]
    if len({source.group is None for source in sources}) > 1:
        raise DataError("give group for every source or for none")
    _check_seeds(sources)
    read = [trains, _several(validation), _several(test)]
    (pool, origins), (loaded, _), (tested, _) = _load(read, split_seed)
    taken = partial(_cut, sources=trains, seed=split_seed, how=cut)

    if test is None:
        num_later = 1 if validation is not None else 2
        _check_sizes(pool, "test", num_test, num_later, trains, cut)
        test_kept, rest = taken(pool, "test", num_test, num_later=num_later)
    else:
        test_kept = tested
        rest = _apart(pool, test_kept)
    if validation is None:
        if test is not None:
            _check_sizes(rest, "validation", num_validation, 1, trains, cut)
        validation_kept, train_kept = taken(rest, "validation", num_validation, num_later=1)
        validation_lost: list[Example] = []
    else:
        validation_kept = _apart(loaded, test_kept)
        train_kept = _apart(rest, validation_kept)
        validation_lost = _shared(loaded, test_kept)

    chosen = {id(example) for example in (*train_kept, *validation_kept, *test_kept)}
    lost = {
        "train": ([example for example in pool if id(example) not in chosen], [*validation_kept, *test_kept]),
        "validation": (validation_lost, test_kept),
        "test": ([], []),
    }
    for split, kept in (("validation", validation_kept), ("train", train_kept)):
        if not kept:
            what = "prompts" if trains[0].group is None else "prompts or groups"
            raise DataError(
                f"no {split} example is left: all {len(lost[split][0])} {what} are in another split as well"
            )
    counts: tuple[SourceCount, ...] = ()
    if len(trains) > 1:
        trained, counts = weighted(train_kept, origins, trains, split_seed)
        if cut != "random":
            _check_weights(train_kept, trained)
        train_kept = trained
    splits = (tuple(train_kept), tuple(validation_kept), tuple(test_kept))
    num_lost = {split: len(examples) for split, (examples, _) in lost.items()}
    num_siblings = {split: len(_new_prompts(*between)) for split, between in lost.items()}
    return Splits(
        *splits,
        num_duplicates_removed={split: num_lost[split] - num_siblings[split] for split in lost},
        fingerprint=_fingerprint(*splits),
        num_siblings_removed=num_siblings,
        train_sources=counts,
    )


def repeated(examples: Sequence[Example]) -> int:
    """How many of a split's examples have a prompt that an earlier one has. What comes again by a weight is the same
    example and does not count."""
    different = {id(example): example for example in examples}
    return len(different) - len({example.asked for example in different.values()})


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


def _cut(
    pool: list[Example],
    split: str,
    number: int | None,
    *,
    num_later: int,
    sources: Sequence[Source],
    seed: int,
    how: Cut,
) -> tuple[list[Example], list[Example]]:
    """(the examples cut, what is left of the pool for the `num_later` other splits)."""
    first: dict[str, Example] = {}
    for example in pool:
        first.setdefault(_unit(example), example)
    units, hint = "prompts", ""
    if any(example.conversation is not None for example in pool):
        hint = "; rows that are parts of one dialogue count once"
    if sources[0].group is not None:
        units, hint = "groups", f"; it takes one example of each: where groups are few, give {split} its own source"
    intro = f"cannot cut {number} {split} examples from train source {_names(sources)}: "
    if number is None or number >= len(first):
        raise DataError(
            f"{intro}it has {len(first)} distinct {units} left and at least one must stay for training{hint}"
        )
    chosen = sorted(first, key=partial(shuffle_key, seed))
    if how == "stratified":
        try:
            left = class_shares(Counter(example.target for example in first.values()), number, num_later)
        except ValueError as error:
            raise DataError(f"{intro}counted in distinct {units}, {error}{hint}") from error
        chosen = [unit for unit in chosen if _take(left, first[unit].target)]
    taken = [first[unit] for unit in chosen[:number]]
    rest = _apart(pool, taken)
    if how != "random":
        _check_classes(pool, {split: taken, "training": rest}, intro, how)
    return taken, rest


def _check_sizes(
    pool: list[Example], split: str, number: int | None, num_later: int, sources: Sequence[Source], how: Cut
) -> None:
    """Before the first cut: neither way to cut helps a class that is in fewer prompts or groups than it needs."""
    sizes = Counter(name for name, _ in {(example.target, _unit(example)) for example in pool})
    small = sorted(name for name, size in sizes.items() if size <= num_later)
    if how == "random" or not small:
        return
    raise DataError(
        f"cannot cut {number} {split} examples from train source {_names(sources)}: counted in distinct "
        f"{'prompts' if sources[0].group is None else 'groups'}, class {small[0]!r} has {sizes[small[0]]} and needs "
        f"{num_later + 1}, one for each split"
        + (f" ({len(small)} classes have too few)" if len(small) > 1 else "")
        + "; take such classes out of the data, or give validation and test sources of their own"
    )


def _take(left: dict[str, int], name: str) -> bool:
    left[name] -= 1
    return left[name] >= 0


def _check_classes(pool: list[Example], parts: dict[str, list[Example]], intro: str, how: Cut) -> None:
    classes = {example.target for example in pool}
    for part, examples in parts.items():
        missing = sorted(classes - {example.target for example in examples})
        if not missing:
            continue
        names = ", ".join(map(repr, missing[:MOST_NAMED])) + (", …" if len(missing) > MOST_NAMED else "")
        ways = "data.stratify: true gives every class its share of each split"
        if how == "stratified":
            ways = "the groups of these classes hold examples of others too; give validation and test sources"
        elif part != "training":
            ways += ", false goes without them"
        raise DataError(
            f"{intro}{part} would have no example of {len(missing)} of {len(classes)} classes ({names}); {ways}"
        )


def _check_weights(examples: list[Example], trained: list[Example]) -> None:
    missing = sorted({example.target for example in examples} - {example.target for example in trained})
    if missing:
        names = ", ".join(map(repr, missing[:MOST_NAMED])) + (", …" if len(missing) > MOST_NAMED else "")
        raise DataError(f"the weights of the train sources leave no train example of class {names}; raise them")


def _several(given: Source | Sequence[Source] | None) -> list[Source]:
    return [] if given is None else [given] if isinstance(given, Source) else list(given)


def _load(splits: Sequence[Sequence[Source]], seed: int) -> list[tuple[list[Example], dict[int, int]]]:
    """Of each split (the examples of its sources, id of an example → number of its source)."""
    read = [[load_examples(source, seed) for source in sources] for sources in splits]
    linked = iter(with_units([example for found in read for examples in found for example in examples]))
    return [_mixed([list(islice(linked, len(examples))) for examples in found], seed) for found in read]


def _mixed(found: list[list[Example]], seed: int) -> tuple[list[Example], dict[int, int]]:
    """The examples of several sources in an order by the seed, those of one in theirs; and id → number of source."""
    origins = {id(example): number for number, examples in enumerate(found) for example in examples}
    if len(found) == 1:
        return found[0], origins
    places = [(number, place) for number, examples in enumerate(found) for place in range(len(examples))]
    places.sort(key=lambda each: shuffle_key(seed, each))
    return [found[number][place] for number, place in places], origins


def _names(sources: Sequence[Source]) -> str:
    return ", ".join(repr(source.name) for source in sources)


def _unit(example: Example) -> str:
    """What must not be in two splits, and is cut by."""
    return example.unit if example.group is None else example.group


def _apart(examples: list[Example], others: list[Example]) -> list[Example]:
    """The examples whose prompt and group none of the others has."""
    shared = {id(example) for example in _shared(examples, others)}
    return [example for example in examples if id(example) not in shared]


def _shared(examples: list[Example], others: list[Example]) -> list[Example]:
    alone, units = {other.unit for other in others}, {_unit(other) for other in others}
    return [example for example in examples if example.unit in alone or _unit(example) in units]


def _new_prompts(examples: list[Example], others: list[Example]) -> list[Example]:
    units = {other.unit for other in others}
    return [example for example in examples if example.unit not in units]


def _fingerprint(*splits: tuple[Example, ...]) -> str:
    digest = hashlib.sha256()
    for number, examples in enumerate(splits):
        for example in examples:
            own = example.conversation or example.segments or example.columns or example.system
            more = [_shape(example)] if own else []
            digest.update(json.dumps([number, example.prompt, example.target, *more]).encode())
    return digest.hexdigest()


def _shape(example: Example) -> dict[str, Any]:
    """What it has besides its two texts; in the order of its keys, in which templates write tools out."""
    talk, segments = example.conversation, example.segments or ()
    return {
        "conversation": None if talk is None else [talk.messages, talk.tools, talk.num_prompt, talk.options],
        "segments": [[segment.text, segment.trained] for segment in segments],
        "columns": example.columns,
        **({} if example.system is None else {"system": example.system}),
        **({} if example.special_tokens is None else {"special_tokens": example.special_tokens}),
    }
