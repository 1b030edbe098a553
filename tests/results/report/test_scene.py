"""One drawing of quality against size: a method looks the same everywhere, and all of it can be seen."""

import re
from importlib import resources

import pytest

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.record import BaseReference, Figure
from prunedlora.results.report.chart_style import FADED, GREY, LOOKS, ORIGINAL_LOOKS, RED, looks
from prunedlora.results.report.front_chart import front_chart
from prunedlora.results.report.front_png import MARKERS, front_png
from prunedlora.results.report.ladder_lines import ladder_lines
from prunedlora.results.report.scene import HALF_TRAINED, front_scene

LORA = {"adapter": {"method": "lora"}}


def papers():
    """The page's background by day and in the dark, from its style sheet."""
    page = resources.files("prunedlora.results.report").joinpath("page.html.jinja").read_text()
    return re.findall(r"--paper: (#\w{6})", page)


def luminance(colour):
    """Of (red, green, blue) from 0 to 255, by https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(colour, paper, opacity):
    front, back = ([int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in (colour, paper))
    seen = [opacity * a + (1 - opacity) * b for a, b in zip(front, back, strict=True)]
    light, dark = sorted((luminance(seen), luminance(back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("paper", papers())
def test_faded_marks_have_a_contrast_of_three_by_day_and_in_the_dark(paper):
    colours = [look.colour for look in (*LOOKS.values(), *ORIGINAL_LOOKS)] + [GREY, RED]
    low = {colour: contrast(colour, paper, FADED) for colour in colours if contrast(colour, paper, FADED) < 3}
    assert low == {}
    assert contrast("#3b82f6", "#14171a", 0.4) < 2.1  # what it was: the measure can fail


def test_every_registered_method_has_a_look_of_its_own_and_others_take_none_of_them():
    folder = resources.files("prunedlora.methods")  # read, not imported: they take torch and PEFT
    code = "".join(file.read_text() for file in folder.iterdir() if file.name.endswith(".py"))
    registered = set(re.findall(r'^@register\("method", "(\w+)"\)', code, re.MULTILINE))
    assert registered == set(LOOKS)
    found = looks(["prunedlora", "mine", "yours", "lora", "lora"])
    assert (found[0], found[3]) == (LOOKS["prunedlora"], LOOKS["lora"])
    assert len(set(found)) == 5
    assert not {found[1], found[2], found[4]} & set(LOOKS.values())
    assert {look.symbol for look in (*LOOKS.values(), *ORIGINAL_LOOKS)} == set(MARKERS)


@pytest.fixture
def store(fill, record, candidate, cut):
    return fill(
        record(
            "a1", candidate(0.7, 900, 5, progress=0.5), candidate(0.97, 400, 10), candidate(0.9, 200, 10, cut=cut(1))
        ),
        record("l1", candidate(0.975, 950, 5, progress=0.5), candidate(0.97, 1000, 10), config=LORA),
    )


def test_half_trained_milestones_have_a_mark_and_an_entry_of_their_own(store):
    figure = front_chart(summarize(store), [])
    half = [trace for trace in figure.data if trace.name.startswith(HALF_TRAINED)]
    assert {trace.marker.symbol for trace in half} == {"x-thin-open"}
    assert sorted(x for trace in half for x in trace.x) == [900, 950]
    assert [trace.showlegend for trace in half].count(True) == 1
    assert {trace.marker.color for trace in half} == {LOOKS["prunedlora"].colour, LOOKS["lora"].colour}
    assert "<br>half-trained: 50% of its steps" in half[0].customdata[0]
    assert [trace.marker.size for trace in half if trace.x[0] == 950] == [11]  # on the front
    others = [trace.marker.symbol for trace in figure.data if trace.mode == "markers" and trace not in half]
    assert others == ["circle", "circle-open", "diamond", "circle-open"]  # the last is the ring


def test_page_and_picture_draw_the_same_scene(store):
    summary = summarize(store)
    scene = front_scene(summary)
    figure = front_chart(summary, [])
    drawn = sum(len(trace.x) for trace in figure.data if trace.mode == "markers")
    assert drawn == len(summary.points) + 1  # and the ring
    assert sum(len(marks.points) for marks in scene.marks) == len(summary.points)
    assert ladder_lines(summary).lines == ()
    assert front_png(summary).startswith(b"\x89PNG")


def test_a_base_model_far_below_is_named_at_the_edge(store):
    assert front_chart(summarize(store), []).layout.yaxis.range is None
    for value, note in ((0.15, ["base model, untrained: 0.150, below"]), (0.65, [])):
        store.write_base(BaseReference(figures={"accuracy": Figure(value=value, num_examples=400)}))
        figure = front_chart(summarize(store), [])
        assert [one.text for one in figure.layout.annotations] == note
    assert front_chart(summarize(store), []).layout.yaxis.range is None


def test_ticks_are_plotlys_own(store):
    axis = front_chart(summarize(store), []).layout.xaxis
    assert (axis.type, axis.tickformat, axis.dtick, axis.tickvals) == ("log", "~s", "D1", None)
