"""shrink without data: what the adapter's weights alone tell."""

from pathlib import Path

import typer
from rich.console import Console

from prunedlora.plain_print import print_plain


def without_data(
    adapter: str,
    revision: str | None,
    sizes: dict[str, str | None],
    *,
    to: Path | None,
    all_layers: bool,
    as_json: bool,
) -> None:
    from prunedlora.delivery.blind_cuts import describe_shrink
    from prunedlora.delivery.blind_text import blind_json, print_blind
    from prunedlora.sweep.shrink_original import read_original
    from prunedlora.sweep.shrink_sizes import sizes_for

    if as_json and all_layers:
        raise typer.BadParameter("--layers has no effect beside --json, which tells every layer")
    original = read_original(adapter, revision)
    report = describe_shrink(original.existing, sizes_for(original, **sizes))
    console = Console()
    if to is not None:
        from prunedlora.delivery.blind_folder import write_blind

        write_blind(original.existing, report, to)
    if as_json:
        import json

        print_plain(console, json.dumps(blind_json(report), indent=1, ensure_ascii=False))
    else:
        print_blind(report, console, all_layers=all_layers)
