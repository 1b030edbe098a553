"""search and train: what trains, in a store of its own. plan: what that takes. show-data: what they would train on."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prunedlora.cli.options import DryRun, MaxSeconds, Overrides, RetryFailed, Split, Storage, SweepFile, WarmStart
from prunedlora.errors import clear_errors
from prunedlora.plain_print import print_plain
from prunedlora.storage_option import given_storage
from prunedlora.sweep.signals import leaving_at_once

if TYPE_CHECKING:
    from prunedlora.config.sweep import SweepConfig

NEEDED = {"ray": "ray[default,train,tune]", "optuna": "optuna"}
"""Packages that only a sweep takes → what pip calls them; all other verbs work without."""


class MissingPackageError(RuntimeError):
    """A package that sweeps need is not installed; the message says how to get it."""


def search(
    sweep_file: SweepFile,
    storage: Storage = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
    retry_failed: RetryFailed = False,
    warm_start: WarmStart = None,
) -> None:
    """Run a sweep, or go on with one: trials, front, report, recommended adapter."""
    with leaving_at_once(), clear_errors():
        check_packages("search and train need")
        from prunedlora.config.load import load_sweep

        config = load_sweep(sweep_file, overrides or ())
        uri = given_storage(storage, config.storage)
        earlier = [given_storage(store, "", "--warm-start") for store in warm_start or ()]
        run_or_plan(
            config,
            uri,
            dry_run=dry_run,
            max_seconds=max_seconds,
            retry_failed=retry_failed,
            warm_start=earlier,
        )


def train(
    sweep_file: SweepFile,
    storage: Storage = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    max_seconds: MaxSeconds = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Train one configuration: the file's `trial`, with overrides, and nothing of its space."""
    with leaving_at_once(), clear_errors():
        check_packages("search and train need")
        from prunedlora.config.identity import trial_key
        from prunedlora.config.load import load_sweep

        config = load_sweep(sweep_file, overrides or (), base_only=True)
        uri = given_storage(storage, f"{config.storage}-train/{trial_key(config.trial)}")
        run_or_plan(config, uri, dry_run=dry_run, max_seconds=max_seconds, retry_failed=retry_failed)


def plan(
    sweep_file: SweepFile,
    storage: Storage = None,
    overrides: Overrides = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Of a device (a GPU; on CPUs a worker).", show_default=False)
    ] = None,
    calibration: Annotated[
        bool, typer.Option(help="Measure speeds in a slot, about a minute for each method; else count only.")
    ] = True,
) -> None:
    """Say what a sweep will take: trainings, tokens, time, device hours, memory, price."""
    with leaving_at_once(), clear_errors():
        if price_per_hour is not None and not calibration:
            raise typer.BadParameter("--price-per-hour has no effect with --no-calibration: without a speed, no price")
        check_packages("plan needs")
        from prunedlora.config.load import load_sweep
        from prunedlora.sweep.plan_ahead import plan_ahead

        config = load_sweep(sweep_file, overrides or ())
        uri = given_storage(storage, config.storage)
        plan_ahead(config, uri, Console(), price_per_hour=price_per_hour, calibrates=calibration)


def show_data(
    sweep_file: SweepFile,
    overrides: Overrides = None,
    num_examples: Annotated[int, typer.Option("-n", min=0, help="Examples shown of each split that is.")] = 3,
    split: Annotated[
        list[Split] | None, typer.Option(help="A split to show examples of; give any number.", show_default="train")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Show this baseline's data instead, by its name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the data as the model reads them, what is trained marked, with figures; starts nothing."""
    with clear_errors():
        from prunedlora.config.load import load_sweep
        from prunedlora.sweep.data_preview import preview
        from prunedlora.sweep.other_data import other_data, trial_of
        from prunedlora.sweep.show_data import preview_json, print_preview

        config = load_sweep(sweep_file, overrides or ())
        shown = [each.value for each in dict.fromkeys(split or [Split.TRAIN])]
        trial, others = trial_of(config, baseline), list(other_data(config, baseline))
        found = preview(trial, num_examples=num_examples, shown=shown, num_workers=config.resources.num_workers)
        if as_json:
            print_plain(Console(), preview_json(found, others))
        else:
            print_preview(found, others, Console())


def check_packages(who: str, otherwise: str = "") -> None:
    """Raises MissingPackageError, naming all that are missing, where a sweep cannot run; before its file is read, so
    that nobody corrects a file for a sweep that cannot run here. `who`: whom that stops, with its verb; `otherwise`:
    what would do instead."""
    missing = [name for name in NEEDED if not _is_installed(name)]
    if missing:
        wanted = " ".join(f'"{NEEDED[name]}"' for name in missing)
        raise MissingPackageError(f"{who} {' and '.join(missing)}: pip install {wanted}{otherwise}")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:  # an import hook may refuse the name
        return False


def run_or_plan(
    config: "SweepConfig",
    storage: str,
    *,
    dry_run: bool,
    max_seconds: float | None,
    retry_failed: bool,
    warm_start: Sequence[str] = (),
) -> None:
    """Runs the sweep, or prints its plan, and ends the process with what came of it as exit status."""
    from prunedlora.sweep.plan import print_plan
    from prunedlora.sweep.run import run_sweep

    if dry_run:
        print_plan(config, storage, Console(), retry_failed=retry_failed, warm_start=warm_start)
        return
    result = run_sweep(
        config,
        storage,
        console=Console(),
        command=typed_command(),
        max_seconds=max_seconds if max_seconds is not None else config.max_seconds,
        retry_failed=retry_failed,
        warm_start=warm_start,
    )
    raise typer.Exit(result.exit_code)


def typed_command() -> list[str]:
    """The process's arguments as people type them."""
    return ["prunedlora", *sys.argv[1:]] if Path(sys.argv[0]).name == "__main__.py" else sys.argv
