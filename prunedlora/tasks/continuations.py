"""Examples that continue one another: one dialogue as several rows, each with some turns more. No torch here."""

from collections.abc import Sequence
from dataclasses import replace

from prunedlora.tasks.dialogue_turns import Turn, plain_turn, turns
from prunedlora.tasks.example import Example


def with_units(examples: Sequence[Example]) -> list[Example]:
    """The same examples, with one `unit` for those that belong together, in any order of them.

    Together are examples of equal prompts, and one whose whole dialogue is how another's begins, with all that belongs
    to either. Dialogues that only open alike ("Hi"), and then differ, do not. Plain prompts and targets are dialogues
    of one question. Without conversations all stay as they are.
    """
    if all(example.conversation is None for example in examples):
        return list(examples)
    found = [_turns(example) for example in examples]
    whole = {each[-1].answered: each[-1].asked for each in found if each}
    parents: dict[str, str] = {}
    for each in found:
        for turn in each[:-1]:
            if turn.answered in whole:
                one, other = sorted((_root(parents, each[-1].asked), _root(parents, whole[turn.answered])))
                if one != other:
                    parents[other] = one
    return [
        replace(example, dialogue=_root(parents, each[-1].asked)) if each else example
        for example, each in zip(examples, found, strict=True)
    ]


def _turns(example: Example) -> list[Turn]:
    if example.conversation is not None:
        return list(turns(example.conversation.messages))
    return [] if example.segments is not None else [plain_turn(example.prompt, example.target)]


def _root(parents: dict[str, str], unit: str) -> str:
    while unit in parents:
        parents[unit] = parents.get(parents[unit], parents[unit])  # halves the way for those that come later
        unit = parents[unit]
    return unit
