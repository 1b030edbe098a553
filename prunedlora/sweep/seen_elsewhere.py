"""Where a running sweep is seen besides its store: the mirror of its study in an Optuna storage, and curves."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console

from prunedlora.config.mirror_url import JOURNAL
from prunedlora.config.sweep import SweepConfig
from prunedlora.plain_print import print_plain
from prunedlora.results.record import TrialRecord
from prunedlora.results.store import Store
from prunedlora.study.asked import is_trial
from prunedlora.study.asker import Asker
from prunedlora.study.mirror import Mirror, address_of, check_mirror
from prunedlora.sweep.curves import Curves, Sink
from prunedlora.sweep.follower import Follower
from prunedlora.sweep.mlflow_curves import MlflowSink, check_mlflow, mlflow_uri, shown_uri
from prunedlora.sweep.tensorboard_curves import TensorBoardSink, check_tensorboard, tensorboard_folder


def check_elsewhere(config: SweepConfig, store: Store) -> None:
    """Before the sweep starts; writes nothing. Raises MirrorError, CurvesError."""
    check_mirror(config, store)
    if "tensorboard" in config.loggers:
        check_tensorboard()
    if "mlflow" in config.loggers:
        check_mlflow(store)


def elsewhere_lines(config: SweepConfig, store: Store) -> list[str]:
    """What to type to see it there."""
    lines = []
    if (address := address_of(config, store)) is not None:
        lines.append(f"Mirror: optuna-dashboard {address.removeprefix(JOURNAL)}")
    if "tensorboard" in config.loggers:
        lines.append(f"Curves: tensorboard --logdir {tensorboard_folder(store, config.name)}")
    if "mlflow" in config.loggers:
        lines.append(f"Curves: mlflow ui --backend-store-uri {shown_uri(store)}")
    return lines


@contextmanager
def seen_elsewhere(config: SweepConfig, store: Store, asker: Asker, console: Console) -> Iterator[None]:
    """While it runs, the sweep is seen there, and in the end as it ended; not where the process must leave at once."""
    say = partial(print_plain, console)
    for line in elsewhere_lines(config, store):
        say(line)
    followers = [Follower(what, follow, say) for what, follow in _followed(config, store, asker)]
    try:
        yield
    except SystemExit:  # terminated: what is not there by now is written by the next run
        raise
    except BaseException:
        _close(followers)
        raise
    _close(followers)


def _close(followers: Iterable[Follower]) -> None:
    for follower in followers:
        follower.close()


def _followed(config: SweepConfig, store: Store, asker: Asker) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is kept up to date by what."""
    if (address := address_of(config, store)) is not None:
        yield "the mirror", Mirror(config, store, address, lambda: (asker.asks, asker.records)).update
    sinks: list[tuple[str, Sink]] = []
    if "tensorboard" in config.loggers:
        sinks.append(("the curves for TensorBoard", TensorBoardSink(tensorboard_folder(store, config.name))))
    if "mlflow" in config.loggers and (uri := mlflow_uri(store)) is not None:
        sinks.append(("the curves for MLflow", MlflowSink(uri, config.name, store)))

    def trials() -> list[tuple[str, TrialRecord | None]]:
        records = {record.key: record for record in asker.records}
        return [(ask.key, records.get(ask.key)) for ask in asker.asks if is_trial(ask) and ask.kind != "confirm"]

    for what, sink in sinks:
        yield what, Curves(store, sink, trials).update
