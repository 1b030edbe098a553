"""How many examples of each class a stratified cut takes."""

from collections.abc import Mapping


def class_shares(sizes: Mapping[str, int], number: int, keep: int) -> dict[str, int]:
    """Class → how many of its `sizes` examples a cut of `number` takes: in proportion to the sizes, by largest
    remainders, but at least one and at most all but `keep`.

    So every class is in the cut and, where `keep` is 1 or more, in what is left. Equal remainders go by name.

    Raises ValueError, which says what is too few, where that is not possible.
    """
    small = sorted(name for name, size in sizes.items() if size <= keep)
    if small:
        raise ValueError(
            f"class {small[0]!r} has {sizes[small[0]]} and needs {keep + 1}, one for each split"
            + (f" ({len(small)} classes have too few)" if len(small) > 1 else "")
        )
    if number < len(sizes):
        raise ValueError(f"{number} is below the number of classes, {len(sizes)}, each of which is to have one")
    most = {name: size - keep for name, size in sizes.items()}
    if number > sum(most.values()):
        raise ValueError(f"at most {sum(most.values())} leave each class {keep} for the other splits")
    total = sum(sizes.values())
    shares = {name: min(max(1, number * size // total), most[name]) for name, size in sizes.items()}
    while (short := number - sum(shares.values())) != 0:
        step = 1 if short > 0 else -1
        open_ = [name for name in sizes if (shares[name] < most[name] if step > 0 else shares[name] > 1)]
        # In whole numbers, so that equal remainders are equal.
        ranked = sorted(open_, key=lambda name: (step * (shares[name] * total - number * sizes[name]), name))
        for name in ranked[: abs(short)]:
            shares[name] += step
    return shares
