"""What lm-evaluation-harness measured on adapters of the front, in their sweep or afterwards."""

from prunedlora.results.analysis.summary import Summary
from prunedlora.results.harness_document import read_harness
from prunedlora.results.record import HARNESS, Figure

TOLD = ("num_fewshot", "limit")
"""Settings of a run that a figure is named with."""


def harness_figures(summary: Summary) -> dict[str, dict[str, Figure]]:
    """Name of an adapter of the front, the recommended one, or "base model" → figure, without "harness/" → its value;
    of those alone that have any. A run says what it was limited to. The quality itself is not among them. Raises
    RecordError for a broken file."""
    quality = summary.objectives.quality
    found = {}
    if summary.base is not None:
        found["base model, untrained"] = _own(summary.base.figures, quality)
    runs = {key: read_harness(summary.store, key) for key in dict.fromkeys(point.key for point in summary.front)}
    for point in summary.front:
        found[point.name] = _own(point.candidate.figures, quality)
        for run in runs[point.key]:
            if run.candidate == point.candidate.name:
                told = ", ".join(f"{name} {run.settings[name]}" for name in TOLD if run.settings.get(name) is not None)
                for name, figure in run.figures.items():
                    found[point.name][f"{name.removeprefix(HARNESS)}{f' ({told})' if told else ''}"] = figure
    return {name: figures for name, figures in found.items() if figures}


def _own(figures: dict[str, Figure], quality: str) -> dict[str, Figure]:
    return {
        name.removeprefix(HARNESS): one for name, one in figures.items() if name.startswith(HARNESS) and name != quality
    }
