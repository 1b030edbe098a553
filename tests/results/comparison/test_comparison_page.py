"""The comparison as people and tools get it: terminal, page, JSON, command."""

import base64
import dataclasses
import io
import json
import re
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.comparison.comparison_page import comparison_document, comparison_html, write_comparison
from prunedlora.results.comparison.comparison_tables import overview
from prunedlora.results.comparison.fronts import compare
from prunedlora.results.comparison.groups import groups_by, groups_of_stores, margin_of
from prunedlora.results.comparison.verdicts import Terms, signed
from prunedlora.results.comparison.verdicts import sentences as verdict_sentences
from prunedlora.results.comparison.words import notes
from prunedlora.results.record import BaseReference, Figure
from prunedlora.results.storage import Storage
from tests.results.report.test_report import EVIL, Page


def made(*stores, names=None, left_out=(), **options):
    groups = groups_of_stores(stores, names, 0.02)
    return compare(groups, **({"within": 0.02, "confidence": 0.95} | options))


def terminal(comparison, left_out=()):
    text = io.StringIO()
    Console(file=text, width=100).print(overview(comparison, list(left_out)))
    assert max(map(len, text.getvalue().splitlines())) <= 100
    return " ".join(text.getvalue().split())


@pytest.fixture
def two(store_of):
    old = store_of("old", {100: 60, 1000: 60, 10_000: 59})
    new = store_of("new", {50: 100, 100: 60, 1000: 20, 10_000: 19, 100_000: 5})
    for store in (old, new):
        store.write_base(BaseReference(figures={"accuracy": Figure(value=0.14, stderr=0.02, num_examples=400)}))
    return old, new


def test_the_terminal_says_what_is_sure_first(two):
    words = terminal(made(*two))
    assert words.startswith(
        "Of new and old as methods nothing can be told: one training each. Untuned: new and old were each trained at "
        "one learning rate. These adapters, as they are: "
    )
    assert (
        "These adapters, as they are: no one verdict on new and old holds, up to every adapter_params from 100 to "
        "100,000. With 95% confidence: at 100 equal within 0.02; from 1,000 to 100,000 new is better. Measured, it is "
        "ahead at 3 of these 4 sizes and behind at 0."
    ) in words
    assert "Below 100 only new has adapters, from 50: accuracy 0.750 ± 0.022 at 50." in words
    assert "Above 10,000 only new gets better: accuracy 0.988 ± 0.006 at 100,000." in words
    assert "Hypervolume up to accuracy 0 and adapter_params 110,000" in words
    assert "Compared on the same 400 validation examples, pair by pair." in words
    assert "whichever of 8 candidates came out as the best (" in words
    assert "(candidates: 3 of old, 5 of new)" in words
    assert re.search(r"1,000 0.950 1,000 0.850 100 \+0.100 \[\+0.0\d\d, \+0.1\d\d\] new is better", words)
    assert "another seed may differ" in words


@pytest.mark.parametrize(
    ("old", "new", "within", "said"),
    [
        ({100: 40}, {100: 42}, 0.001, "are: no difference between new and old can be told with 95% confidence, up to"),
        (
            {100: 40},
            {100: 42},
            0.05,
            "new and old are at most 0.05 apart with 95% confidence, up to adapter_params 100",
        ),
        ({100: 40}, {100: 90}, 0.01, "new is worse than old with 95% confidence, up to adapter_params 100."),
        ({100: 40}, {100: 90}, 0.01, "Measured 0.125 worse."),
        ({100: 40}, {100: 40}, 0.01, "Measured the same."),
        ({9: 80, 99: 40}, {9: 80, 99: 42}, 0.001, "no difference between new and old can be told with 95% conf"),
        ({9: 40, 99: 38}, {9: 40, 99: 40}, 0.05, "apart with 95% confidence, up to every adapter_params from 9 to 99."),
        ({9: 90, 99: 60}, {9: 40, 50: 39, 99: 19}, 0.01, "new is better than old with 95% confidence, up to every"),
        ({9: 90, 99: 20}, {9: 40, 50: 39, 99: 19}, 0.01, "from 9 to 50 new is better; at 99 equal within 0.01"),
        ({9: 90, 30: 20, 99: 19}, {9: 40, 50: 39, 99: 19}, 0.01, "at 9 new is better; from 30 to 50 old is better; at"),
        ({10: 40}, {100: 5}, 0.01, "new and old tried no size in common: adapter_params 100 and 10."),
        ({10: 40}, {100: 5}, 0.01, "new is better than old with 95% confidence, up to adapter_params 100."),
    ],
)
def test_every_outcome_has_its_words(old, new, within, said, store_of):
    assert said in terminal(made(store_of("old", old), store_of("new", new), within=within))


def test_what_is_not_paired_is_said(store_of):
    old, other = store_of("old", {100: 20}), store_of("other", {100: 20}, data="other")
    bare = store_of("bare", {100: 20}, outcomes=False)
    assert "Scored on different data, or on different splits of it, so that nothing" in terminal(made(old, other))
    assert "Outcomes by example are not on record for both" in terminal(made(old, bare))
    words = terminal(made(old, other, bare))
    assert "other: scored on different data" in words
    assert "bare: outcomes by example are not on record" in words


def test_losses_between_models_carry_a_warning(store_of, record, candidate):
    stores = []
    for name in ("tiny", "large"):
        store = store_of(name, {}, objectives={"loss": "minimize", "adapter_params": "minimize"})
        store.write_record(record("k", candidate(), config={"model": {"name": name}}), 1)
        stores.append(store)
    assert "between models (large, tiny) it compares only where" in terminal(made(*stores))


def test_the_document_holds_what_the_page_shows(two):
    document = comparison_document(made(*two), ["x: why"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["control"], [group["name"] for group in document["groups"]]) == ("old", ["old", "new"])
    assert document["reference_point"] == {"accuracy": 0.0, "adapter_params": 110_000.0}
    (comparison,) = document["comparisons"]
    assert (comparison["name"], comparison["against"], comparison["same_data"]) == ("new", "old", True)
    assert (comparison["verdict"], comparison["methods"]["why_not"]) == ("unknown", "one training each")
    assert comparison["adapters"]["verdict"] == "mixed"
    assert comparison["finding"] == f"{comparison['methods']['finding']} {comparison['adapters']['finding']}"
    at = next(one for one in comparison["sizes"] if one["at_most"] == 1000)
    assert (at["adapter"]["size"], at["against"]["size"], at["verdict"]) == (1000, 100, "better")
    assert (at["adapter"]["best_of"], at["against"]["best_of"], at["paired"]) == (3, 2, True)
    assert at["low"] < at["better_by"] < at["high"]
    assert at["better_by"] == pytest.approx(0.1)
    assert document["left_out"] == ["x: why"]


def test_the_page_opens_with_the_answer_and_loads_nothing(two, tmp_path):
    place = write_comparison(made(*two), ["x: why"], str(tmp_path / "out"), "prunedlora compare a b")
    page = Page((tmp_path / "out" / "comparison.html").read_text())
    assert place == str(tmp_path / "out" / "comparison.html")
    assert page.loads == page.handlers == []
    assert "no one verdict on new and old holds, up to every adapter_params" in page.words
    assert "Left out: x: why." in page.words
    assert "prunedlora compare a b" in page.words
    figures = [json.loads(script) for script in page.scripts if script.startswith('{"data"')]
    fronts, differences = figures
    rest = ["old", "new", "base model, untrained", "recommended"]  # the fronts' staircases, then what has no group
    assert [trace["name"] for trace in fronts["data"]] == ["old, dominated", "old", "new", *rest]
    colours = [trace["marker"]["color"] for trace in fronts["data"][:3]]
    assert colours[0] == colours[1] == fronts["data"][3]["line"]["color"] != colours[2]
    bars = base64.b64decode(fronts["data"][2]["error_y"]["array"]["bdata"])
    assert len(bars) == 8 * 5  # float64, one for each of the front
    (trace,) = differences["data"]
    assert trace["x"] == [100, 1000, 10_000, 100_000]
    at = made(*two).contrasts[0].changes
    assert trace["y"] == [one.difference for one in at]
    assert trace["error_y"]["array"] == pytest.approx([one.high - one.difference for one in at])
    assert trace["error_y"]["arrayminus"] == pytest.approx([one.difference - one.low for one in at])
    assert (tmp_path / "out" / "comparison.json").exists()


def test_names_from_outside_are_text_everywhere(store_of):
    stores = [store_of("a", {100: 20, 50: 90}, records=[{"label": EVIL}, {}], name=EVIL), store_of("b", {100: 20})]
    comparison = made(*stores, names=[EVIL, "日本 [bold]"])
    html = comparison_html(comparison, [EVIL], EVIL)
    page = Page(html)
    assert page.tags.count("script") == Page(comparison_html(made(*stores), [])).tags.count("script")
    assert "img" not in page.tags
    assert page.handlers == []
    assert "日本 [bold]" in page.words
    for script in page.scripts:
        if script.startswith('{"data"'):
            texts = re.findall(r"<[^>]*>", json.dumps(json.loads(script), ensure_ascii=False))
            assert set(texts) <= {"<b>", "</b>", "<br>"}
    words = terminal(comparison, [EVIL])
    assert "[bold]" in words


def test_twelve_groups_look_different(store_of):
    labels = [{"label": f"l{i:02}"} for i in range(12)]
    groups, _ = groups_by(store_of("s", {100 + i: 20 + i for i in range(12)}, records=labels), "label", 0.01)
    html = comparison_html(compare(groups, within=0.01, confidence=0.95), [])
    figure = next(json.loads(script) for script in Page(html).scripts if script.startswith('{"data"'))
    looks = {(trace["marker"]["symbol"], trace["marker"]["color"]) for trace in figure["data"][:12]}
    assert len(looks) == 12


def test_a_remote_folder_takes_the_page(two):
    assert write_comparison(made(*two), [], "memory://bucket/out").endswith("bucket/out/comparison.html")
    assert json.loads(Storage("memory://bucket/out").read_text("comparison.json"))["control"] == "old"


def invoke(*arguments):
    # rich asks the environment for the width where there is no terminal
    return CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "100"})


def test_the_command(two, tmp_path, monkeypatch):
    old, new = (store.uri for store in two)
    monkeypatch.setattr(sys, "argv", ["prunedlora", "compare", old, new, "--names", "last week,today"])
    result = invoke(old, new, "--names", "last week,today", "--within", "2pt", "--to", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert "no one verdict on today and last week holds" in " ".join(result.output.split())
    assert f"Report: {tmp_path}/out/comparison.html" in result.output
    assert "--names &#39;last week,today&#39;" in (tmp_path / "out" / "comparison.html").read_text()
    result = invoke(old, new, "--json", "--to", str(tmp_path / "out"))
    assert json.loads(result.output) == json.loads((tmp_path / "out" / "comparison.json").read_text())
    result = invoke(old, new, "--json", "--against", "new")
    assert json.loads(result.output)["comparisons"][0]["name"] == "old"


def test_the_command_by_setting(store_of):
    ranks = [{"config": {"adapter": {"method": "lora", "initial_rank": rank}}} for rank in (4, 8)]
    store = store_of("s", {100: 60, 200: 20}, records=ranks)
    result = invoke(store.uri, "--by", "adapter.initial_rank")
    assert result.exit_code == 0
    assert "8 and 4 tried no size in common" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OLD"], "alone is no comparison: give another store, or --by adapter.method, say"),
        (["OLD", "NEW", "--by", "label"], "--by label makes groups of one store's trials, got 2 stores"),
        (
            ["OLD", "--by", "label", "--names", "a"],
            "--names is for stores: the groups of --by are named by their values",
        ),
        (["OLD", "OLD"], "is given twice"),
        (["OLD", "NEW", "--names", "a,a"], "the name 'a' is given twice"),
        (["OLD", "/nowhere/at/all"], "/nowhere/at/all is no store: it has no sweep.yaml"),
        (["OLD", "NEW", "--confidence", "2"], "confidence must lie in [0.5, 1), got 2"),
        (["OLD", "NEW", "--within", "wide"], "--within 'wide' is neither a number (0.01) nor points (1pt)"),
        (["OLD", "NEW", "--to", " "], "--to is empty"),
        (["OLD", "NEW", "--to", "OLD/sweep.yaml"], "sweep.yaml"),
    ],
)
def test_bad_input_ends_with_a_clear_error(arguments, message, two):
    places = {"OLD": two[0].uri, "NEW": two[1].uri, "OLD/sweep.yaml": f"{two[0].uri}/sweep.yaml"}
    result = invoke(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_small_differences_are_shown_with_the_digits_that_tell_them_from_none():
    told = [signed(value) for value in (0.1, -0.0006, 0.00037, -0.00004, 1e-16, 0.0)]
    assert told == ["+0.100", "-0.0006", "+0.0004", "-0.00004", "+0.000", "+0.000"]


def test_rounding_is_no_difference(two):
    contrast = made(*two).contrasts[0]
    alike = [dataclasses.replace(one, difference=1e-16) for one in contrast.matched]
    terms = Terms("new", "old", "adapter_params", 0.02, 0.95)
    assert verdict_sentences(terms, alike)[-1] == "Measured, it is ahead at 0 of these 4 sizes and behind at 0."
    assert verdict_sentences(terms, alike[:1])[-1] == "Measured the same."


def test_the_margin_is_that_of_the_sweeps(store_of):
    one, same = (store_of(name, {100: 20, 50: 26}, recommend_within=0.02) for name in ("one", "same"))
    other = store_of("other", {100: 20, 50: 26}, recommend_within=0.03)
    assert margin_of([one, same]) == 0.02
    result = CliRunner().invoke(app, ["compare", one.uri, same.uri, "--json"])
    assert json.loads(result.stdout)["within"] == 0.02
    result = CliRunner().invoke(app, ["compare", one.uri, other.uri])
    assert result.exit_code != 0
    assert "give one by --within" in " ".join(result.output.split())
    assert CliRunner().invoke(app, ["compare", one.uri, other.uri, "--within", "0.02"]).exit_code == 0


def test_what_is_recommended_is_what_its_report_names(fill, record, candidate):
    """A half-trained milestone too, though it is left out of everything else."""
    milestone = candidate(0.9, 50, 5, progress=0.5)
    store = fill(record("a1", milestone, candidate(0.9, 100, 10), candidate(0.7, 20, 20)))
    groups = groups_of_stores([store], None, 0.01)
    assert groups[0].recommended.name == summarize(store).recommended.name == "a1@5"
    assert [point.name for point in groups[0].front] == ["a1@20", "a1@10"]
    comparison = compare([groups[0], dataclasses.replace(groups[0], name="other")], within=0.01, confidence=0.95)
    assert "demo recommends one all the same, a1@5: the smallest within the margin." in notes(comparison)
