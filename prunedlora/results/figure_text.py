"""Figures and sizes as short texts, for pages and the terminal."""

from collections.abc import Iterable, Sequence

from prunedlora.results.record import Candidate, Figure


def figure_text(figure: Figure) -> str:
    """Value and standard error as text; the value alone where the examples tell no error (`no_error_text`)."""
    return f"{figure.value:.3f}" + (f" ± {figure.stderr:.3f}" if figure.stderr else "")


def percent(share: float) -> str:
    """A share in percent, with the digits that it was given with: 0.995 is no certainty."""
    return f"{100 * share:.10g}%"


def counted(count: int, noun: str) -> str:
    """ "1 training", "2,000 trainings" """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_of(names: Sequence[str], most: int) -> str:
    """ "a, b and 3 more", of `most` names before that."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def no_error_text(figures: Iterable[Figure]) -> str:
    """Why some of them stand without ±: an error of exactly 0 is that of examples which all give the same, or of a
    figure of all classes that none of them moves. Empty where there are none such."""
    if not any(figure.stderr == 0 for figure in figures):
        return ""
    return (
        "Without ±: figures that no example changes when it alone is left out, which tells no standard error of them; "
        "it is unknown, not 0."
    )


def bytes_text(count: int) -> str:
    """A size in the largest unit (powers of 1024) that leaves at least 1."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


def seconds_text(seconds: float) -> str:
    """A time in seconds, minutes or hours, whichever it is at least one of."""
    for unit, factor in (("h", 3600.0), ("min", 60.0)):
        if seconds >= factor:
            return f"{seconds / factor:,.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def file_text(candidate: Candidate) -> str:
    """What lies on the disk, its head included."""
    return bytes_text(candidate.file_bytes) if candidate.file_bytes else "no file"
