"""What a sweep of baselines alone would do in this process, for --dry-run: nothing is written, and no Ray is needed."""

from dataclasses import asdict

from rich.console import Console

from prunedlora.config.sweep import SweepConfig
from prunedlora.plain_print import print_plain
from prunedlora.results.share_text import share_text
from prunedlora.sweep.bind import check_fingerprints, commits_of
from prunedlora.sweep.opening import Opening
from prunedlora.sweep.preflight import preflight


def print_plan_here(config: SweepConfig, storage: str, console: Console) -> None:
    """Checks what `run_here` would check, with the same errors (but for what the first write to an object store would
    tell), and prints data, evaluation and storage. Raises DriverLockedError as it."""
    opening = Opening(config, storage)
    opening.lock(console).refuse_living()
    store = opening.store
    found = preflight(config, commits_of(config, store))
    check_fingerprints(store, found.fingerprints)
    lines = [
        *(f"Data: {line}" for line in found.data),
        *(f"Adapter: {share_text(asdict(share))}" for share in found.shares),
        *found.evaluation,
        f"Storage: {store.uri} ({'new' if opening.is_new else 'goes on'})",
        *(f"Warning: {warning}" for warning in found.warnings),
    ]
    for line in lines:
        print_plain(console, line)
