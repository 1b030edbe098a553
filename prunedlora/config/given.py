"""What a search is given to begin with: the configuration of all priors, then configurations that are known to be
good."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prunedlora.config.corners import corners
from prunedlora.config.space import Choice, Searched, SpaceEntry

Known = Mapping[str, Any]
"""Field path → value, of entries of the space."""


def priors(space: Mapping[str, SpaceEntry]) -> dict[str, Any]:
    """Of all entries that have one."""
    return {path: entry.prior for path, entry in space.items() if isinstance(entry, Searched) and entry.has_prior}


def given_first(space: Mapping[str, SpaceEntry], known: Sequence[Known]) -> list[dict[str, Any]]:
    """What is to be tried first, in order: all priors, where there are any; then the known configurations, each with
    the priors of what it does not name. Entries that none of them names are drawn; those whose `when` does not hold
    have no effect."""
    every = priors(space)
    return [*([every] if every else []), *({**every, **one} for one in known)]


def known_problems(space: Mapping[str, SpaceEntry], known: Sequence[Known]) -> list[str]:
    """Fields of known configurations that are none of the space, values that are none of theirs, and entries whose
    `when` holds of no suggestion with these values."""
    twice = [
        f"known[{i}] is the same as known[{known.index(one)}]; remove it"
        for i, one in enumerate(known)
        if one in known[:i]
    ]
    return twice + [problem for i, one in enumerate(known) for problem in _problems(space, one, f"known[{i}]")]


def with_given(space: Mapping[str, SpaceEntry], given: Known) -> dict[str, SpaceEntry]:
    """The space in which these entries have one value each."""
    return {
        path: Choice(choice=[given[path]], when=entry.when) if path in given else entry for path, entry in space.items()
    }


def _problems(space: Mapping[str, SpaceEntry], known: Known, where: str) -> Iterator[str]:
    if not known:
        yield f"{where} names no field; remove it"
    wrong = False
    for path, value in known.items():
        entry = space.get(path)
        if entry is None:
            yield f"{where}.{path} is no entry of the space; those are {', '.join(space)}"
        elif not isinstance(entry, Searched):
            yield f"{where}.{path} is not searched: the space sets it to {entry.value!r}"
        elif why := entry.misfit(value):
            yield f"{where}.{path}: {value!r} {why}"
        else:
            continue
        wrong = True
    if wrong or not known:
        return
    active = {path for values in corners(with_given(space, known)) for path in values}
    for path in sorted(known.keys() - active):
        yield f"{where}.{path} has no effect beside the others: its `when` does not hold with them; remove it"
