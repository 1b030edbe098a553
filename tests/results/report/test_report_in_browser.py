"""The report as a reader has it: opened from a file in a real browser, without a network."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from prunedlora.results.ask import Ask
from prunedlora.results.importances_document import Importances, ObjectiveImportances, write_importances
from prunedlora.results.record import BaseReference, Cut, Figure
from prunedlora.results.report.report import write_report
from prunedlora.results.store import Store
from tests.conftest import BROWSERS

pytestmark = pytest.mark.needs("browser")

DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
NAME = '<b>größer</b> & "groß" %{x} 日本'
CHOICES = '{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}'


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as driver:
        # Without its sandbox, which needs rights that a container has not; it opens nothing but our own page.
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory, sweep, record, candidate, failed):
    """The path of a report with every part in it."""

    def config(rate, rank):
        return {"adapter": {"method": "prunedlora", "initial_rank": rank}, "optimizer": {"learning_rate": rate}}

    store = Store(str(tmp_path_factory.mktemp("browser") / "store"))
    store.create_or_open(sweep | {"recommend_within": 0.05})
    for each in (
        record("a1", candidate(0.97, 900, 5), candidate(0.96, 1000, 10), config=config(0.1, 4), label=NAME),
        record("b2", candidate(0.5, 5000, 5), candidate(0.99, 60_000, 10), config=config(0.25, 8)),
        record("c3", candidate(0.8, 70, 5), config={"adapter": {"method": "lora"}, "note": NAME}, label="LoRA"),
        failed("d4", candidate(0.2, 100), message=NAME),  # what a failed trial had computed counts; this is dominated
        record("e5", candidate(0.3, 80), status="stopped"),
    ):
        store.write_record(each, 1)
    for key in ("a1", "b2"):
        store.append_log(key, [{"step": step, "loss": 2.0 / step} for step in range(1, 11)])
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.14, stderr=0.02, num_examples=400)}))
    path = "adapter.initial_rank"
    for number, (key, rank) in enumerate({"a1": 4, "b2": 8}.items()):
        given = {"params": {path: rank}, "distributions": {path: CHOICES}}
        store.write_ask(Ask(number=number, key=key, kind="search", system_attrs={}, **given))
    shares = {"accuracy": ObjectiveImportances(shares={path: 1.0})}
    write_importances(store, Importances(evaluator="e", num_trials=10, num_best=5, objectives=shares))
    write_report(store)
    return Path(store.uri, "report", "report.html")


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory, sweep, record, candidate):
    """The path of a report of one adapter and its cuts, whose names are long."""
    cuts = [
        Cut(basis=basis, allocation="global_per_parameter", unit="kept", size=size)
        for basis in ("svd", "whitened")
        for size in (0.5, 0.25, 0.03125)
    ]
    made = [candidate(0.8 - i / 100, 600 - 90 * i, 0, cut=cut) for i, cut in enumerate(cuts)]
    config = {"adapter": {"method": "lora", "start_from": "some/adapter"}, "training": {"num_steps": 0}}
    one = record("ad18160a4f661dd5", candidate(0.81, 2688, 0), *made, config=config)
    store = Store(str(tmp_path_factory.mktemp("shrunk") / "store"))
    store.create_or_open(sweep)
    store.write_record(one, 1)
    write_report(store)
    return Path(store.uri, "report", "report.html")


@contextmanager
def opened(browser, report, **settings):
    """The page with every chart drawn. Errors and requests are failures."""
    problems = []

    def note(message):
        # WebGL without a graphics card says so; that is the machine's, not the page's.
        if "GL Driver Message" not in message.text:
            problems.append(f"{message.type}: {message.text}")

    context = browser.new_context(**settings)
    page = context.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda request: request.url == report.as_uri() or problems.append(f"asks: {request.url}"))
    page.goto(report.as_uri())
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()
    page.evaluate("window.scrollTo(0, 0)")
    yield page
    context.close()
    assert problems == []


@pytest.fixture(scope="module")
def page(browser, report):
    """Shared: a test leaves it so that the others do not mind."""
    with opened(browser, report, **DESKTOP, permissions=["clipboard-read", "clipboard-write"]) as page:
        yield page


def test_hover_shows_the_configuration(page):
    # Front, learning curves, importances, parallel coordinates, ranks, history twice.
    assert page.locator(".chart").count() == 7
    page.locator("#front").scroll_into_view_if_needed()
    # Traces in the order of the methods, the dominated first; a1@5 is the smaller of the front's two of prunedlora.
    page.locator("#front .scatterlayer .trace").nth(1).locator(".point").first.hover(force=True)
    hover = page.locator("#front .hoverlayer")
    hover.locator("text").first.wait_for()
    shown = hover.text_content()
    for part in ("accuracy 0.9700 ± 0.0100", "900 parameters", f"{NAME}, a1@5", "optimizer.learning_rate: 0.1"):
        assert part in shown


def test_tables_sort_by_mouse_and_keyboard(page):
    table = page.get_by_role("region", name="Table of the front")
    column = table.locator("tbody td:nth-child(3)")
    assert column.all_text_contents() == ["70", "900", "60,000"]
    header = table.get_by_role("columnheader", name="parameters")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column.all_text_contents() == ["60,000", "900", "70"]
    # By value, not by text; and the sort before is no longer shown.
    table.get_by_role("columnheader", name="accuracy").get_by_role("button").click()
    assert column.all_text_contents() == ["70", "900", "60,000"]
    assert header.get_attribute("aria-sort") is None


def test_the_export_command_is_copied(page, report):
    page.get_by_role("button", name="Copy the command that exports it").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"prunedlora export {report.parents[1]} a1@5 --to adapters/a1-5"


@pytest.mark.parametrize(
    ("settings", "paper"),
    [
        pytest.param({"color_scheme": "light"} | DESKTOP, 255, id="light"),
        pytest.param({"color_scheme": "dark"} | DESKTOP, 20, id="dark"),
        pytest.param(PHONE, 255, id="phone"),
    ],
)
def test_the_first_screen_holds_the_answer(browser, report, settings, paper):
    with opened(browser, report, **settings) as page:
        answer = page.get_by_role("region", name="Recommendation").bounding_box()
        assert answer["y"] + answer["height"] < settings["viewport"]["height"]
        assert page.evaluate("document.documentElement.scrollWidth") == settings["viewport"]["width"]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor").startswith(f"rgb({paper},")
        # A chart's texts have the page's ink, which is dark on white and light on black.
        ink = page.evaluate("getComputedStyle(document.querySelector('#front .xtick text')).fill")
        assert ink == page.evaluate("getComputedStyle(document.body).color")
        assert len(page.screenshot(full_page=True)) > 50_000


CLIPPED = """() => [...document.querySelectorAll("main *")].filter((element) => {
  const box = element.getBoundingClientRect();
  if (box.width === 0 || element.closest(".wide, .chart, details, svg")) return false;
  const over = element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline";
  return over || box.right > document.documentElement.clientWidth + 1;
}).map((element) => element.outerHTML.slice(0, 200))"""
"""What is wider than its place or than the screen, but for tables that scroll by themselves and charts."""
CUT_LABELS = """() => [...document.querySelectorAll(".chart")].flatMap((chart) => {
  const place = chart.getBoundingClientRect();
  return [...chart.querySelectorAll("text.legendtext, .xtitle, .ytitle, .xtick text, .ytick text, .annotation text")]
    .filter((text) => {
      const box = text.getBoundingClientRect();
      return box.width > 0 && (box.left < place.left - 2 || box.right > place.right + 2);
    }).map((text) => `${chart.id}: ${text.textContent}`);
})"""
"""Words of charts that reach beyond their place."""


@pytest.mark.parametrize("name", ["report", "shrunk"])
@pytest.mark.parametrize(
    ("settings", "heading"),
    [pytest.param(DESKTOP, "none", id="desktop"), pytest.param(PHONE, '"at most"', id="phone")],
)
def test_nothing_is_cut_off(browser, request, name, settings, heading):
    with opened(browser, request.getfixturevalue(name), **settings) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == settings["viewport"]["width"]
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate(CUT_LABELS) == []
        # The tables that one decides by need no scrolling, and every cell is there to read.
        for name in ("What may be lost, and what that buys", "Beside what else there is"):
            table = page.get_by_role("table", name=name)
            box = table.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= settings["viewport"]["width"]
            for cell in table.locator("tbody td:not(:empty)").all():
                assert cell.evaluate("cell => parseFloat(getComputedStyle(cell).fontSize)") >= 13
                place = cell.bounding_box()
                assert place["width"] > 20
                assert place["x"] + place["width"] <= settings["viewport"]["width"]
        # On a phone every cell stands beside its heading, since the row of headings has no room.
        cell = page.locator('table.stack td[data-label="at most"]').first
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == heading


def test_names_from_outside_are_text(page):
    assert page.locator("main b").count() == 0
    assert page.get_by_text(f"NonFiniteLossError: {NAME}").count() == 1
    assert page.get_by_role("cell", name=f"{NAME} a1").count() == 1


def test_code_in_a_sentence_is_code(browser, shrunk):
    with opened(browser, shrunk, **DESKTOP) as page:
        box = page.get_by_role("region", name="Recommendation")
        assert "`" not in box.inner_text()
        assert box.locator("code", has_text="ad18160a4f661dd5@0").count() > 1
