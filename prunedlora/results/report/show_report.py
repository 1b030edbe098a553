"""From a store to a report: on the terminal, and as files in the store or wherever one asks for them."""

from collections.abc import Sequence

from rich.console import Console

from prunedlora.plain_print import print_plain
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.report.overview import overview, print_paths
from prunedlora.results.report.report import report_files, report_folder, write_files
from prunedlora.results.storage import NotAllowedError, Storage
from prunedlora.results.store import Store


class ReportError(ValueError):
    """A report that cannot be written as asked."""


def show_report(
    store: Store,
    console: Console,
    messages: Console,
    *,
    size: str | None,
    to: str | None,
    as_json: bool,
    serve_on: Sequence[str] | None = None,
) -> None:
    """Prints the overview, or report.json, and writes the report's files into the folder `to` (a path or URI); None:
    into the store, where one against another size than the sweep's own, or for other servers (`serve_on`), has a folder
    of its own (`report_folder`).

    A store that may be read only gets no report, and `messages` says so. Raises ReportError when `to` is empty,
    StoreError when it cannot be written, and what `summarize` raises.
    """
    if to is not None and not to.strip():
        raise ReportError("--to is empty")
    target = None if to is None else Storage(to)
    if target is not None:
        target.make_root()  # a folder that cannot be had is told before any work
    summary = summarize(store, size=size, serve_on=serve_on)
    if not as_json:
        console.print(overview(summary))
    files = report_files(summary)
    if as_json:
        text = files["report.json"].decode()
        print_plain(console, text, end="")
    page = None
    try:
        if target is not None:
            page = write_files(files, target, "")
        else:
            page = write_files(files, store.storage, report_folder(summary))
    except NotAllowedError as error:
        if target is not None:
            raise
        reason = f"{store.uri} is read-only, no report was written: --to FOLDER writes it elsewhere ({error})"
        print_plain(messages, reason)
    if not as_json:
        print_paths(summary, page, console)
