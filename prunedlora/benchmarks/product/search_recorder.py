"""Trains every configuration of a sweep's grid and records its loss at shares of its steps and its candidates: a table
that searches are replayed on (search_replay.py).

One JSON line per training, appended once it is done, so that recording goes on where it was cut off, and several
processes may share one grid. Nothing in a line hangs on time or machine but how sums round.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prunedlora.adapters.size import measure
from prunedlora.benchmarks.product.search_grid import Grid
from prunedlora.benchmarks.product.search_table import OUTCOMES_AT
from prunedlora.config.sweep import SweepConfig
from prunedlora.config.trial import TrialConfig
from prunedlora.tasks.outcomes import figures
from prunedlora.training.distributed import Workers
from prunedlora.training.evaluate import evaluate
from prunedlora.training.loop import NonFiniteError, StepLog, Verdict
from prunedlora.training.train_alone import train_alone
from prunedlora.trial.assemble import build_method, build_trial, num_steps
from prunedlora.trial.assets import AssetCache, Assets
from prunedlora.trial.candidates import ADAPTER, validation_examples

LOOKS = (0.05, 0.1, 0.2, 0.3)
"""Shares of the steps at which the loss is measured besides the candidates."""
LOOK_EXAMPLES = 100
"""First validation examples, of a look."""
DIGITS = 5


def record_rows(
    kind: str, config: SweepConfig, path: Path, *, part: tuple[int, int], say: Callable[[str], None]
) -> None:
    """Appends to `path` the rows of this part of the grid, (k, n) the k-th of n, that are in no file `*.jsonl` of its
    folder yet, in an order drawn once: what is there at any time is an even sample.

    Raises ValueError for a space that has no grid; what training raises, but for losses that are not finite.
    """
    grid = Grid.of(config)
    known = {tuple(row["at"]) for row in read_rows(path.parent) if row["kind"] == kind}
    cache, workers = AssetCache(torch.device("cpu")), Workers(0, 1, torch.device("cpu"))
    order = list(enumerate(grid.places()))
    random.Random(0).shuffle(order)
    mine = [at for number, (_, at) in enumerate(order) if number % part[1] == part[0] and at not in known]
    for number, at in enumerate(mine):
        trial = grid.trial(at)
        row = {"kind": kind, "at": list(at), **trained(trial, cache.get(trial, None), workers)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        say(f"{kind} {number + 1}/{len(mine)}: {row['candidates']}")


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows recorded so far. Raises ValueError, naming the file, for a line that is none."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path} has a line that is no row: {line[:80]!r}; delete the line") from error


def trained(trial: TrialConfig, assets: Assets, workers: Workers) -> dict[str, Any]:
    """What a training comes to: {"steps", "looks": [[step, loss, standard error]], "outcomes": the loss of each example
    at OUTCOMES_AT in thousandths, "removals": steps, "candidates": [[step, parameters, largest rank, loss, standard
    error, quality, standard error]], "failed": step or null}. A removal before which a candidate is made at the same
    step counts with the step after."""
    steps = num_steps(trial, len(assets.train))
    method = build_method(trial, steps, assets.skeleton.reach.modules)
    model = method.attach(assets.base.model, ADAPTER)
    row: dict[str, Any] = {
        "steps": steps,
        "looks": [],
        "outcomes": [],
        "removals": [],
        "candidates": [],
        "failed": None,
    }
    looks = {max(1, round(share * steps)): share for share in LOOKS}
    try:
        live = build_trial(trial, assets, model, method, workers)
        row["removals"] = [rung.begin + 1 for rung in live.course.rungs if rung.number > 0]
        size = trial.evaluation.batch_size

        def on_step(log: StepLog) -> Verdict:
            if log.ranks is not None and not live.course.rungs:
                row["removals"].append(log.step)
            if log.step in looks:
                first = assets.validation[:LOOK_EXAMPLES]
                given = (live.model, assets.task, first)
                found = evaluate(*given, batch_size=size, dtype=live.dtype, workers=workers, generate=False)
                row["looks"].append([log.step, *_rounded(figures(found)["loss"])])
                if looks[log.step] == OUTCOMES_AT:
                    means = zip(found.loss_sums, found.num_targets, strict=True)
                    row["outcomes"] = [round(1000 * total / count) for total, count in means]
            return Verdict.CONTINUE

        def on_milestone() -> Verdict:
            given = (live.model, assets.task, validation_examples(trial, assets))
            measured = figures(evaluate(*given, batch_size=size, dtype=live.dtype, workers=workers))
            sizes = measure(live.model, ADAPTER)
            quality = _rounded(measured[trial.evaluation.metric])
            row["candidates"].append(
                [live.step, sizes.adapter_params, sizes.max_rank, *_rounded(measured["loss"]), *quality]
            )
            return Verdict.CONTINUE

        try:
            train_alone(live, workers, on_step=on_step, on_milestone=on_milestone)
        except NonFiniteError:
            row["failed"] = live.step
        return row
    finally:
        method.close()
        method.detach(model)


def base_quality(trial: TrialConfig) -> float:
    """The metric of the base model, nothing trained, on the same examples."""
    workers = Workers(0, 1, torch.device("cpu"))
    assets = AssetCache(workers.device).get(trial, None)
    given = (assets.base.model, assets.task, validation_examples(trial, assets))
    found = evaluate(*given, batch_size=trial.evaluation.batch_size, dtype=assets.base.dtype, workers=workers)
    return _rounded(figures(found)[trial.evaluation.metric])[0]


def _rounded(figure: Any) -> tuple[float, float]:
    return round(figure.value, DIGITS), round(figure.stderr, DIGITS)


def table_of(grids: Mapping[str, Grid], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows as one document, in the order of the grids: {kind: {"grid": path → values, "rows": [row]}}."""
    return {
        kind: {
            "grid": grid.values,
            "rows": [
                {name: value for name, value in row.items() if name != "kind"}
                for row in sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["at"])
            ],
        }
        for kind, grid in grids.items()
    }
