"""Generated reasoning tasks: entries of reasoning-gym (https://github.com/open-thought/reasoning-gym)."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from prunedlora.tasks.data_error import DataError

GENERATED = "reasoning_gym:"


def generate(
    name: str, options: Mapping[str, Any], seed: int | None, num_examples: int | None
) -> list[tuple[dict[str, Any], Callable[[str], float]]]:
    """(columns, the generator's own score of an answer) of every entry, in the generator's order.

    Raises DataError: no seed or number, package not installed, unknown task, option or value, or values with which the
    generator makes no entry.
    """
    task = name.removeprefix(GENERATED)
    if seed is None or num_examples is None:
        raise DataError(f"source {name!r} needs seed and num_examples")
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise DataError(f"source {name!r} needs a package: pip install reasoning-gym") from error
    if task not in DATASETS:
        close = difflib.get_close_matches(task, DATASETS, n=5) or sorted(DATASETS)
        raise DataError(f"unknown reasoning-gym task {task!r}; did you mean: {', '.join(close)}")
    known = {option.name for option in fields(DATASETS[task][1])} - {"seed", "size"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise DataError(
            f"reasoning-gym task {task!r} has no option {', '.join(unknown)}; its options: {', '.join(sorted(known))}"
            + " (seed and num_examples are fields of the source)"
        )
    try:
        dataset = reasoning_gym.create_dataset(task, size=num_examples, seed=seed, **options)
    except Exception as error:  # its configurations refuse values by asserting, others by failing at them
        raise DataError(f"reasoning-gym task {task!r} refuses options {dict(options)}: {error}") from error
    try:
        entries = [dataset[row] for row in range(num_examples)]
    except Exception as error:  # a hundred generators, each failing in its own way at values that nobody foresaw
        raise DataError(
            f"reasoning-gym task {task!r} makes no {num_examples} entries with seed {seed} and options "
            f"{dict(options)}: {type(error).__name__}: {error}"
        ) from error
    return [
        (
            {column: value for column, value in entry.items() if column != "metadata"},
            partial(dataset.score_answer, entry=entry),
        )
        for entry in entries
    ]
