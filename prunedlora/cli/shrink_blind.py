"""shrink without data: what the adapter's weights alone tell."""

from pathlib import Path

import typer
from rich.console import Console

from prunedlora.plain_print import print_plain


def without_data(
    adapter: str,
    revision: str | None,
    base: str | None,
    sizes: dict[str, str | None],
    *,
    to: Path | None,
    all_layers: bool,
    as_json: bool,
) -> None:
    from prunedlora.delivery.blind_cuts import describe_shrink
    from prunedlora.delivery.blind_text import blind_json, print_blind
    from prunedlora.sweep.shrink_base import check_base
    from prunedlora.sweep.shrink_original import read_original
    from prunedlora.sweep.shrink_sizes import sizes_for

    if as_json and all_layers:
        raise typer.BadParameter("--layers has no effect beside --json, which tells every layer")
    original = read_original(adapter, revision)
    if base is not None:
        check_base(original, base)
    chosen = sizes_for(original, **sizes)
    report = describe_shrink(original.existing, chosen.config)
    console = Console()
    if to is not None:
        from prunedlora.delivery.blind_folder import write_blind

        write_blind(original.existing, report, to)
    if as_json:
        import json

        told = blind_json(report) | {"sizes_left_out": chosen.left_out}
        print_plain(console, json.dumps(told, indent=1, ensure_ascii=False))
        return
    print_blind(report, console, all_layers=all_layers)
    if chosen.left_out is not None:
        print_plain(console, f"Sizes left out: {chosen.left_out}")
    if base is not None:
        print_plain(console, f"Its layers are of {base!r}, by names and shapes.")
