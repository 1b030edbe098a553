"""What a chart of quality against size shows, before it is drawn: by Plotly for pages (plotly_scene.py), by matplotlib
for pictures (front_png.py)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prunedlora.results.analysis.attainment import Attainment
from prunedlora.results.analysis.harness_quality import split_text
from prunedlora.results.analysis.original import origins
from prunedlora.results.analysis.pareto import Point
from prunedlora.results.analysis.summary import Summary
from prunedlora.results.record import Figure
from prunedlora.results.recorded_settings import in_order, method
from prunedlora.results.report.chart_style import FADED, GREY, ORIGINAL_LOOKS, RED, Look, looks, size_title
from prunedlora.results.report.ladder_lines import ladder_lines

Form = Literal["full", "hollow", "thin"]
"""Of a mark: trained to its end; cut without training; half-trained, which is a cross whatever the method."""
FORMS: tuple[Form, ...] = ("full", "hollow", "thin")
HALF_TRAINED = "half-trained milestones"
MOST_WITH_BARS = 500
"""Faded marks that have error bars; those of more would hide each other. Their hover texts have the figure."""


@dataclass(frozen=True)
class Marks:
    """Candidates that look alike."""

    title: str
    points: tuple[Point, ...]
    look: Look
    form: Form
    is_faded: bool
    """Beaten in quality and size at once: small, and a little transparent."""
    group: str
    """What a click on the legend hides together: one entry for each."""
    has_bars: bool = True


@dataclass(frozen=True)
class Line:
    """A line without marks; a None among the x is a gap."""

    title: str
    x: tuple[float | None, ...]
    y: tuple[float | None, ...]
    colour: str = GREY
    dash: Literal["solid", "dash", "dot", "dashdot"] = "solid"
    width: float = 1.0
    opacity: float = 1.0
    is_staircase: bool = False
    """What is below and to the right of it is beaten."""
    hover: str = ""
    """Empty: silent."""
    group: str = ""
    """As of Marks; empty: its own."""
    in_legend: bool = True

    @property
    def level(self) -> float | None:
        """Where it lies, if it is a reference across; else None."""
        return self.y[0] if len(self.y) == 2 and self.hover and self.y[0] == self.y[1] else None


@dataclass(frozen=True)
class Scene:
    marks: tuple[Marks, ...]
    lines: tuple[Line, ...]
    ringed: tuple[Point, ...]
    """The recommended ones."""
    x_title: str
    y_title: str
    highest: float | None = None
    """What no quality can be above, where an axis ends; None: it has no end."""

    @property
    def view(self) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
        """The qualities to look at, and what a reader is told of lines far from all marks: beside a base model that
        knows nothing of the task all differences between adapters would be a pixel. None: all there is."""
        values = [point.quality.value for marks in self.marks for point in marks.points]
        if not values:
            return None, ()
        low, high = min(values), max(values)
        room = max(high - low, 0.01 * max(abs(low), abs(high)))
        levels = [(line.title, line.level) for line in self.lines if line.level is not None]
        far = [(title, at) for title, at in levels if not low - room <= at <= high + room]
        told = tuple(f"{title}: {at:.3f}, {'below' if at < low else 'above'}" for title, at in far)
        top = high + room / 4 if self.highest is None else min(high + room / 4, self.highest)
        return ((low - room / 4, top), told) if far else (None, ())

    @property
    def entries(self) -> dict[str, Marks]:
        """Group → the marks that stand for it in the legend: the first that are not faded, else the first."""
        found: dict[str, Marks] = {}
        for marks in sorted(self.marks, key=lambda one: one.is_faded):
            found.setdefault(marks.group, marks)
        return found

    @property
    def sizes(self) -> list[float]:
        return [point.size for marks in self.marks for point in marks.points] or [1.0]


def axis_position(sizes: Iterable[float]) -> Callable[[float], float]:
    """Size → where it stands on a logarithmic axis, which has no 0: empty adapters stand left of all others."""
    smallest = min((size for size in sizes if size > 0), default=1.0)
    return lambda size: size if size > 0 else smallest / 3


def form_of(point: Point) -> Form:
    if point.candidate.cut is not None:
        return "hollow"
    return "thin" if point.candidate.is_half_trained else "full"


def marks_of(title: str, points: Sequence[Point], look: Look, on_front: set[str], *, bars: bool) -> list[Marks]:
    """The points of one method: faded and not, trained, cut and half-trained apart."""
    titles = {"full": title, "hollow": f"{title}, cut", "thin": HALF_TRAINED}
    found = []
    for form in FORMS:
        for is_faded in (True, False):
            some = tuple(p for p in points if form_of(p) == form and (p.name not in on_front) == is_faded)
            if some:
                group = titles[form]
                found.append(Marks(group, some, look, form, is_faded, group, has_bars=bars or not is_faded))
    return found


def front_scene(summary: Summary, bands: Attainment | None = None) -> Scene:
    """Front and beaten candidates of every method, the rungs of a training joined, the recommended one ringed, adapters
    that trainings began with as stars with a line, base model and full fine-tuning as lines, and what shares of the
    seeds attain."""
    quality = summary.objectives.quality
    on_front = {point.name for point in summary.front}
    began = {point.name for point in summary.originals.values()}
    names = in_order(method(point.record) for point in summary.points)
    by_name = dict(zip(names, looks(names), strict=True))
    few = len(summary.points) - len(on_front) <= MOST_WITH_BARS
    marks: list[Marks] = []
    for name, look in by_name.items():
        mine = [point for point in summary.points if method(point.record) == name and point.name not in began]
        marks += marks_of(name, mine, look, on_front, bars=few)
    sizes = [point.size for point in summary.points]
    lines = [*_ladders(summary, by_name), *_front_line(summary)]
    for i, origin in enumerate(origins(summary.originals)):
        look, group = ORIGINAL_LOOKS[i % len(ORIGINAL_LOOKS)], f"original {i}"
        marks.append(Marks(origin.label, origin.points, look, "full", is_faded=False, group=group))
        lines += level(origin.label, origin.points[0].quality, sizes, "dashdot", look.colour, 1.0, group)
    lines += _bands(bands)
    lines += level("base model, untrained", summary.base_quality, sizes, "dash")
    lines += level("full fine-tuning", summary.full, sizes, "dot")
    ringed = () if summary.recommended is None else (summary.recommended,)
    return Scene(
        tuple(marks),
        tuple(lines),
        ringed,
        size_title(summary.objectives),
        f"{quality} ({split_text(quality)})",
        highest=1.0 if quality == "accuracy" else None,
    )


def level(
    title: str,
    figure: Figure | None,
    sizes: Sequence[float],
    dash: Literal["dash", "dot", "dashdot"],
    colour: str = GREY,
    width: float = 2.0,
    group: str = "",
) -> list[Line]:
    """A reference without a size of its own on this axis, as a line across; with a `group`, without an entry in the
    legend. None for no figure."""
    if figure is None:
        return []
    ends, value = (min(sizes, default=1.0), max(sizes, default=1.0)), figure.value
    hover = f"{title}: {value:.4f} ({figure.num_examples:,} examples)"
    return [Line(title, ends, (value, value), colour, dash, width, hover=hover, group=group, in_legend=not group)]


def _ladders(summary: Summary, by_name: dict[str, Look]) -> Iterable[Line]:
    """One line, with gaps, for the trainings of a method that reach the front and one for the others, thinner."""
    groups: dict[tuple[str, bool], list[Point | None]] = {}
    for one in ladder_lines(summary).lines:
        key = (method(one.points[0].record), one.reaches_front)
        groups.setdefault(key, []).extend([*one.points, None])
    for number, ((name, reaches), points) in enumerate(groups.items()):
        yield Line(
            "rungs of one training",
            tuple(None if point is None else point.size for point in points),
            tuple(None if point is None else point.quality.value for point in points),
            by_name[name].colour,
            width=1.5 if reaches else 0.7,
            opacity=FADED,
            group="rungs",
            in_legend=number == 0,
        )


def _front_line(summary: Summary) -> Iterable[Line]:
    if summary.front:
        x = tuple(point.size for point in summary.front)
        yield Line("front", x, tuple(point.quality.value for point in summary.front), is_staircase=True)


def _bands(bands: Attainment | None) -> Iterable[Line]:
    for one in () if bands is None else bands.levels:
        title = f"{one.percent}% of {len(bands.seeds) if bands else 0} seeds attain"
        width = 2.0 if one.percent == 50 else 1.0
        yield Line(title, tuple(one.sizes), tuple(one.qualities), RED, "dot", width, is_staircase=True, hover=title)
