"""What the sweep's file gives to begin with, as far as it has not been asked for: by settings, so that a file that was
changed counts in a search that goes on."""

from collections.abc import Iterable, Sequence
from typing import Any

from prunedlora.results.ask import Ask
from prunedlora.study.asked import GIVEN
from prunedlora.study.listed_configurations import canonical_params


def next_given(given: Sequence[dict[str, Any]], searched: Iterable[Ask]) -> dict[str, Any] | None:
    """The first that no ask was made for; None when all were.

    `given`: parameters as Optuna has them, in the file's order, of all entries or of some: then the others were drawn,
    and GIVEN says what was not. `searched`: asks of the search.
    """
    if not given:
        return None
    asked: set[str] = set()
    for ask in searched:
        asked.add(canonical_params(ask.params))
        its = ask.system_attrs.get(GIVEN)
        if isinstance(its, dict):
            asked.add(canonical_params(its))
    return next((params for params in given if canonical_params(params) not in asked), None)
