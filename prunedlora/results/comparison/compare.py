"""From stores to a comparison on the terminal and, where asked for, a page."""

from collections.abc import Sequence

from rich.console import Console

from prunedlora.plain_print import print_plain
from prunedlora.results.comparison.comparison_page import comparison_json, write_comparison
from prunedlora.results.comparison.comparison_tables import overview
from prunedlora.results.comparison.fronts import check_margins, compare
from prunedlora.results.comparison.groups import ComparisonError, groups_by, groups_of_stores, margin_of
from prunedlora.results.storage import Storage
from prunedlora.results.store import Store


def run_comparison(
    uris: Sequence[str],
    console: Console,
    *,
    names: Sequence[str] | None,
    by: str | None,
    against: str | None,
    within: float | None,
    confidence: float,
    to: str | None,
    as_json: bool,
    command: str | None = None,
) -> None:
    """Compares whole stores, or the groups of one by a setting; prints the answer, and writes it below `to`.

    `within`: None takes the margin of the sweeps. Raises ComparisonError for what cannot be compared, StoreError for a
    folder `to` that cannot be made or written, and what reading the stores raises.
    """
    check_margins(0.0 if within is None else within, confidence)
    if by is None and len(uris) < 2:
        raise ComparisonError(f"{uris[0]} alone is no comparison: give another store, or --by adapter.method, say")
    if by is not None and len(uris) > 1:
        raise ComparisonError(f"--by {by} makes groups of one store's trials, got {len(uris)} stores")
    if by is not None and names is not None:
        raise ComparisonError("--names is for stores: the groups of --by are named by their values")
    if to is not None and not to.strip():
        raise ComparisonError("--to is empty")
    stores = [Store(uri) for uri in uris]
    for store in stores:
        store.open()
    margin = margin_of(stores) if within is None else within
    if to is not None:
        Storage(to).make_root()  # a folder that cannot be had is told before any work
    left_out: list[str] = []
    if by is None:
        groups = groups_of_stores(stores, names, margin)
    else:
        groups, left_out = groups_by(stores[0], by, margin)
    comparison = compare(groups, within=margin, confidence=confidence, against=against)
    if as_json:
        print_plain(console, comparison_json(comparison, left_out), end="")
    else:
        console.print(overview(comparison, left_out))
    if to is not None:
        page = write_comparison(comparison, left_out, to, command)
        if not as_json:
            print_plain(console, f"Report: {page}")
