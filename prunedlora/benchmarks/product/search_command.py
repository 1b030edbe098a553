"""The benchmark of the search: a grid is trained and recorded once, then searches are replayed on it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prunedlora.benchmarks.benchmark_options import NumThreads, Overrides
from prunedlora.errors import clear_errors

app = typer.Typer()
LADDERS, SINGLE = Path("search_spaces/search_small.yaml"), Path("search_spaces/search_small_single.yaml")
TABLE = Path("jobs/results/search_table.json")
LadderFile = Annotated[Path, typer.Option("--ladders", help="Grid of trainings that give several sizes.")]
SingleFile = Annotated[Path, typer.Option("--single", help="Grid of trainings that aim at one size each.")]


@app.command()
@clear_errors()
def record_search(
    rows: Annotated[Path, typer.Argument(help="Folder of rows; what is there is not trained again.")],
    table: Annotated[Path, typer.Option(help="Gets the table of the rows that are there.")] = TABLE,
    ladders: LadderFile = LADDERS,
    single: SingleFile = SINGLE,
    overrides: Overrides = None,
    train: Annotated[bool, typer.Option(help="Train what is missing; else write the table of what is there.")] = True,
    part: Annotated[int, typer.Option(min=0, help="Which of so many processes this is, from 0.")] = 0,
    num_parts: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    num_threads: NumThreads = 1,
) -> None:
    """Trains every configuration of both grids and writes the table that `search` replays. Run again, it goes on."""
    import torch

    from prunedlora.benchmarks.product.search_grid import Grid
    from prunedlora.benchmarks.product.search_recorder import base_quality, read_rows, record_rows, table_of
    from prunedlora.config.load import load_sweep

    if part >= num_parts:
        raise typer.BadParameter(f"--part {part} of --num-parts {num_parts}: parts are numbered from 0")
    torch.set_num_threads(num_threads)
    rows.mkdir(parents=True, exist_ok=True)
    configs = {kind: load_sweep(file, overrides or ()) for kind, file in (("ladder", ladders), ("single", single))}
    for kind, config in configs.items() if train else ():
        record_rows(kind, config, rows / f"{kind}_{part}.jsonl", part=(part, num_parts), say=typer.echo)
    grids = {kind: Grid.of(config) for kind, config in configs.items()}
    found = list(read_rows(rows))
    base = base_quality(configs["ladder"].trial)
    table.write_text(json.dumps({"base": base, **table_of(grids, found)}, separators=(",", ":")) + "\n")
    left = sum(len(grid.places()) for grid in grids.values()) - len(found)
    typer.echo(json.dumps({"table": str(table), "rows": len(found), "left": left}))


@app.command()
@clear_errors()
def search(
    table: Annotated[Path, typer.Argument(help="Recorded by record-search.")] = TABLE,
    ladders: LadderFile = LADDERS,
    single: SingleFile = SINGLE,
    num_runs: Annotated[int, typer.Option(min=2, help="Budget, in whole trainings.")] = 40,
    num_seeds: Annotated[int, typer.Option(min=1)] = 20,
    num_slots: Annotated[int, typer.Option(min=1, help="Runs that train at a time.")] = 1,
    figure: Annotated[Path | None, typer.Option(help="Gets the curves as a page.")] = None,
) -> None:
    """Searches replayed on a recorded table, and on a made-up one whose front is known: hypervolume against steps, and
    the steps that each needs for what TPE with one point a run has in the end."""
    from prunedlora.benchmarks.product.search_figures import chart, compare, show
    from prunedlora.benchmarks.product.search_grid import Grid
    from prunedlora.benchmarks.product.search_table import Laboratory, read_table
    from prunedlora.benchmarks.product.search_toy import toy_table
    from prunedlora.config.load import load_sweep

    console = Console(width=120)
    configs = {kind: load_sweep(file) for kind, file in (("ladder", ladders), ("single", single))}
    made_up = toy_table(*(Grid.of(config) for config in configs.values()))
    recorded = read_table(table)
    results = {}
    for name, rows in (("made up", made_up), ("recorded", recorded)):
        laboratories = {kind: Laboratory.of(config, rows[kind]) for kind, config in configs.items()}
        given = {"base": rows["base"], "num_runs": num_runs, "num_seeds": num_seeds, "num_slots": num_slots}
        results[name] = compare(laboratories, **given, say=lambda line: console.print(line, style="dim"))
        num_rows = {kind: len(laboratory.trainings) for kind, laboratory in laboratories.items()}
        console.print(f"{name}: {num_rows['ladder']} ladders, {num_rows['single']} trainings of one size")
        title = f"{name}: hypervolume by share of {results[name].budget:,} steps"
        show(results[name], title, console)
    if figure is not None:
        chart(results["recorded"]).write_html(figure)
    toy = results["made up"].figures()
    beside = {name: toy[name] for name in ("compute_ratio", "quartiles")}
    typer.echo(json.dumps(results["recorded"].figures() | {"made_up": beside}))
