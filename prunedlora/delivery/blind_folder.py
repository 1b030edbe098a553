"""Cut adapters as plain PEFT folders, made of an adapter's own files, with the figures of what the cuts change."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.ticker import PercentFormatter

from prunedlora.adapters.existing import ExistingAdapter
from prunedlora.adapters.export import LABELS_FILE
from prunedlora.adapters.factor_folder import read_back, write_factors
from prunedlora.adapters.file_layers import read_factors
from prunedlora.delivery.blind_cuts import BlindReport, decomposed, ranks_of
from prunedlora.delivery.blind_text import WORDS, blind_json
from prunedlora.delivery.form import ExportError
from prunedlora.delivery.new_folder import new_folder
from prunedlora.results.record import Cut
from prunedlora.results.report.chart_style import COLOURS
from prunedlora.results.report.front_png import new_picture, png, size_axis

REPORT_NAME, PICTURE_NAME = "shrink.json", "change.png"


def write_blind(existing: ExistingAdapter, report: BlindReport, to: Path) -> dict[str, Path]:
    """Writes into `to`, which must not be there, a folder for every cut of the report of this adapter, `shrink.json`
    and `change.png`; returns the cuts' folders by name.

    A folder is a plain PEFT adapter (factor_folder.py) with the labels of the adapter, if it has any, and has been read
    back by PEFT: `shrink.json` tells how far the updates came back from what was cut. Where the writing fails, nothing
    is left. Raises ExportError for a folder that is there or cannot be written, and for an adapter that is no longer
    what the report tells; NotReadBackError.
    """
    held, factors, others = read_factors(existing)
    found = decomposed(held, factors)
    document, folders = blind_json(report), {}
    with new_folder(to) as fill, TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"  # the scratch folder itself is the user's alone, and a copy would be too
        for each, entry in zip(report.cuts, document["cuts"], strict=True):
            name = folder_name(each.cut)
            if ranks_of(each.cut, held, found, report.min_rank) != each.ranks:
                raise ExportError(f"{existing.folder} has changed since it was read: start again")
            cut = found.cut(each.ranks)
            own = whole / name
            write_factors(own, held, cut, others)
            entry |= {"adapter_path": name, "read_back": read_back(own, held, cut, others)}
            if (labels := existing.folder / LABELS_FILE).is_file():
                shutil.copy(labels, own / LABELS_FILE)
            folders[name] = to / name
        (whole / REPORT_NAME).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        (whole / PICTURE_NAME).write_bytes(change_png(report))
        fill(whole)
    return folders


def folder_name(cut: Cut) -> str:
    """Of a cut among others of one adapter: kept-0.25-uniform."""
    return f"{cut.unit}-{cut.size:.12g}-{cut.allocation}"


def change_png(report: BlindReport) -> bytes:
    """Relative change against parameters, a line for each allocation, from the whole adapter on; 1600 × 1000 pixels."""
    figure, axes = new_picture()
    for (allocation, title), colour in zip(WORDS.items(), COLOURS, strict=False):
        cuts = [each for each in report.cuts if each.cut.allocation == allocation]
        if cuts:
            x, y = [report.params, *(each.params for each in cuts)], [0.0, *(each.change for each in cuts)]
            axes.plot(x, y, "o-", color=colour, linewidth=1, markersize=5, label=title)
    size_axis(axes, "adapter parameters (A and B)")
    axes.set_ylabel("relative change of the update (no accuracy)")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0.0)
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    return png(figure)
