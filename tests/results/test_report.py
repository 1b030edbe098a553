import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from prunedlora.results.figure_text import bytes_text, figure_text
from prunedlora.results.record import BaseReference, Figure
from prunedlora.results.report import report_html, write_report
from prunedlora.results.storage import StoreError
from prunedlora.results.store import ExportedAdapter, Store
from prunedlora.results.summary import summarize

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)> \"'`\n日本"
ROW_KEYS = {
    "key", "step", "truncated_rank", "accuracy", "accuracy_stderr", "num_examples",
    "adapter_params", "adapter_bytes", "file_bytes", "max_rank", "served_slot", "served_slot_bytes", "adapter_path",
    "config",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would load or run, and what a reader would see."""

    def __init__(self, html):
        super().__init__()
        self.loads, self.handlers, self.scripts, self.text, self.tags = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.loads.append(value)
            if name.startswith("on"):
                self.handlers.append(value)

    def handle_data(self, data):
        (self.scripts if self.lasttag == "script" and self.cdata_elem else self.text).append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def filled(fill, record, candidate, failed):
    """A baseline, two pruned trials, a failed one, the base model."""
    lora = {"adapter": {"method": "lora", "initial_rank": 8}, "optimizer": {"learning_rate": 0.1}}
    store = fill(
        record("a1", candidate(0.97, 400, 5), candidate(0.96, 100, 10)),
        record("b2", candidate(0.5, 50, 5), candidate(0.4, 60, 10), status="stopped"),
        record("c3", candidate(0.975, 800, 5), config=lora, label="LoRA rank 8"),
        failed("d4", candidate(1.0, 1), message="loss is nan"),
    )
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.14, stderr=0.02, num_examples=400)}))
    return store


def read(store, name):
    return store.storage.read_text(f"report/{name}")


def test_front_json(filled):
    write_report(filled)
    found = json.loads(read(filled, "front.json"))
    assert (found["sweep"], found["split"]) == ("demo", "validation")
    assert found["objectives"] == {"accuracy": "maximize", "adapter_params": "minimize"}
    assert found["reference_point"] == {"accuracy": 0.0, "adapter_params": 880.0}
    assert found["reference_rule"] == "accuracy 0; adapter_params 1.1 times the largest candidate's"
    assert found["hypervolume"] == pytest.approx(0.5 * 830 + 0.46 * 780 + 0.01 * 480 + 0.005 * 80)
    assert found["base"]["accuracy"] == 0.14
    assert [(row["key"], row["step"]) for row in found["front"]] == [("b2", 5), ("a1", 10), ("a1", 5), ("c3", 5)]
    assert all(set(row) == ROW_KEYS for row in found["front"])
    row = found["front"][1]
    assert row["adapter_path"] == f"{filled.uri}/trials/a1/adapters/10"
    assert (row["accuracy"], row["accuracy_stderr"], row["num_examples"]) == (0.96, 0.01, 400)
    assert row["config"] == filled.read_record("a1").config


def test_recommended_in_front_json(filled):
    recommended = json.loads(read(write_report(filled).store, "front.json"))["recommended"]
    assert recommended.keys() >= ROW_KEYS
    assert (recommended["key"], recommended["step"], recommended["within"]) == ("a1", 5, 0.01)
    assert recommended["validation"]["accuracy"] == {"value": 0.97, "stderr": 0.01, "num_examples": 400}
    assert recommended["validation"]["loss"]["value"] == pytest.approx(0.03)
    assert (recommended["test"], recommended["path"]) == (None, None)

    test = {"accuracy": Figure(value=0.93, stderr=0.005, num_examples=1000)}
    filled.write_exported(ExportedAdapter(key="a1", step=5, test=test, path="/x/recommended"))
    write_report(filled)
    recommended = json.loads(read(filled, "front.json"))["recommended"]
    assert recommended["test"] == {"accuracy": {"value": 0.93, "stderr": 0.005, "num_examples": 1000}}
    assert recommended["path"] == "/x/recommended"

    # Figures of an adapter that is no longer the recommended one are not shown as its own.
    write_report(filled, within=0.5)
    recommended = json.loads(read(filled, "front.json"))["recommended"]
    assert (recommended["key"], recommended["test"], recommended["path"]) == ("b2", None, None)


def test_a_sweep_for_loss_names_its_figure(fill, record):
    write_report(store := fill(record(), objectives={"max_rank": "minimize", "loss": "minimize"}))
    found = json.loads(read(store, "front.json"))
    assert {"loss", "loss_stderr"} <= set(found["front"][0])
    assert "accuracy" not in found["front"][0]
    assert set(found["reference_point"]) == {"loss", "max_rank"}
    assert "largest rank" in Page(read(store, "report.html")).words


def test_csv_files(filled):
    write_report(filled)
    front = list(csv.DictReader(io.StringIO(read(filled, "front.csv"))))
    assert [(row["key"], row["step"]) for row in front] == [("b2", "5"), ("a1", "10"), ("a1", "5"), ("c3", "5")]
    assert front[3]["config.adapter.method"] == "lora"
    candidates = list(csv.DictReader(io.StringIO(read(filled, "candidates.csv"))))
    assert [(row["key"], row["status"]) for row in candidates] == [
        ("a1", "completed"), ("a1", "completed"), ("b2", "stopped"), ("b2", "stopped"),
        ("c3", "completed"), ("d4", "failed"),
    ]  # fmt: skip
    assert [row["on_front"] for row in candidates] == ["True", "True", "True", "False", "True", "False"]
    assert [row["recommended"] for row in candidates] == ["True", "False", "False", "False", "False", "False"]
    assert float(candidates[0]["accuracy"]) == 0.97
    assert float(candidates[0]["loss_stderr"]) == 0.02


def test_the_page_opens_with_the_answer(filled):
    write_report(filled, command="python jobs/search.py x.yaml")
    words = Page(read(filled, "report.html")).words
    answer = words[words.index("Ship the adapter") :]
    assert answer.startswith("Ship the adapter of 400 parameters: accuracy 0.970 ± 0.010 on validation.")
    assert "2× smaller than the best (accuracy 0.975 ± 0.010). 2× smaller than the largest tried" in answer
    assert "not measured on the test split yet" in answer
    for part in ("LoRA rank 8", "NonFiniteLossError : loss is nan", "python jobs/search.py x.yaml", "torch 2.13"):
        assert part in words.replace("Error:", "Error :")


def test_the_page_says_what_the_test_split_gave(filled):
    test = {"accuracy": Figure(value=0.93, stderr=0.005, num_examples=1000)}
    filled.write_exported(ExportedAdapter(key="a1", step=5, test=test, path="/x/recommended"))
    words = Page(report_html(summarize(filled))).words
    assert "0.970 ± 0.010 on validation, 0.930 ± 0.005 on test" in words
    assert "test split (1,000 examples) was looked at for this adapter only" in words
    assert "/x/recommended" in words


def test_the_chart_shows_every_kind(filled):
    html = report_html(summarize(filled))
    names = set(re.findall(r'"name":"([^"]*)"', html))
    assert {
        "prunedlora", "prunedlora, dominated", "lora", "front", "recommended", "base model, untrained",
    } <= names  # fmt: skip
    assert '"symbol":"diamond"' in html
    assert '"type":"log"' in html
    assert '"error_y"' in html


def test_the_page_says_how_sure_it_is_and_where_the_components_are(filled):
    html = report_html(summarize(filled))
    words = Page(html).words
    assert "Compared by their standard errors over 400 validation examples, it is at most 0.0" in words
    assert "worse than the best with 95% confidence" in words
    for div in ("front", "history", "ranks"):
        assert f'id="{div}"' in html
    assert '"type":"heatmap"' in html
    assert html.count("plotly.js v") == 1  # the library is in there once


def test_the_page_is_self_contained(filled):
    html = report_html(summarize(filled), "x")
    page = Page(html)
    assert page.loads == []
    assert not set(page.tags) & {"link", "iframe", "object", "embed", "base", "img"}
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    assert "@import" not in style
    assert "url(" not in style
    assert html.count("plotly.js v") == 1
    assert "prefers-color-scheme: dark" in style
    assert 'name="viewport"' in html
    assert len(html) < 10_000_000


def test_text_from_outside_is_escaped(fill, record, candidate, failed):
    evil = {"adapter": {"method": EVIL}, EVIL: EVIL, "optimizer": {"learning_rate": 0.1}}
    names = {"name": EVIL, "trial": {"x": EVIL}}
    store = fill(record("a1", candidate(), config=evil, label=EVIL), record("b2"), failed("c3", message=EVIL), **names)
    write_report(store, command=EVIL)
    html = read(store, "report.html")
    page = Page(html)
    assert page.handlers == []
    assert "img" not in page.tags
    assert "<script>alert" not in html
    assert page.tags.count("script") == Page(report_html(summarize(fill_like(store)))).tags.count("script")
    assert "alert('x')</script><img src=x onerror=alert(1)>" in page.words
    assert "日本" in page.words
    # Hover texts are HTML to Plotly: a tag in them must reach it as text.
    assert all("<img" not in script.replace("\\u003c", "<") for script in page.scripts if "alert" in script)
    assert json.loads(read(store, "front.json"))["front"][0]["config"] == evil
    assert next(csv.DictReader(io.StringIO(read(store, "front.csv"))))[f"config.{EVIL}"] == EVIL


def fill_like(store):
    """The same store with harmless names."""
    plain = Store(f"{store.uri}-plain")
    plain.create_or_open(store.read_sweep() | {"name": "plain", "trial": {}})
    for record in store.records():
        plain.write_record(record.model_copy(update={"config": {}, "label": None}), 1)
    return plain


def test_stores_without_an_answer_say_why(fill, record, candidate, failed):
    store = fill()
    for records, message in [
        ([], "No trial has finished yet"),
        ([failed("a1"), failed("b2", candidate())], "All 2 trials failed: nothing to recommend"),
        ([record("c3", status="stopped", candidates=())], "No trial has a candidate that can stand on the axes"),
        ([record("d4", candidate(params=0, adapter_path=None))], "No candidate has an adapter file"),
    ]:
        for each in records:
            store.write_record(each, 1)
        summary = write_report(store)
        assert message in summary.missing_answer()
        assert message in Page(read(store, "report.html")).words
        found = json.loads(read(store, "front.json"))
        assert found["recommended"] is None
        assert len(found["front"]) == (1 if "file" in message else 0)
        assert read(store, "front.csv").startswith("key,step")


def test_empty_adapters_have_a_place_on_the_logarithmic_axis(fill, record, candidate):
    store = fill(record("a1", candidate(0.5, 0, adapter_path=None)), record("b2", candidate(0.6, 150)))
    html = report_html(summarize(store))
    assert '"tickvals":[50.0,100.0,200.0],"ticktext":["0","100","200"]' in html
    assert "whose ranks are all 0 stand at the left edge" in Page(html).words


def test_one_trial_is_its_own_best(fill, record):
    words = Page(report_html(summarize(fill(record())))).words
    assert "It is itself the best. It is itself the largest tried." in words


def test_a_report_on_an_object_store(uri, sweep, record):
    store = Store(uri)
    with pytest.raises(StoreError, match="is no store"):
        write_report(store)
    store.create_or_open(sweep)
    store.write_record(record("a1"), 1)
    write_report(store)
    assert store.storage.names("report") == ["candidates.csv", "front.csv", "front.json", "report.html"]
    assert json.loads(read(store, "front.json"))["front"][0]["adapter_path"] == f"{store.uri}/trials/a1/adapters/10"


def test_figures_as_text():
    assert figure_text(Figure(value=0.86449, stderr=0.0172, num_examples=400)) == "0.864 ± 0.017"
    assert figure_text(Figure(value=1.0, num_examples=1)) == "1.000"
    assert [bytes_text(n) for n in (0, 999, 1024, 1_048_064, 5 << 20, 3 << 40)] == [
        "0 B", "999 B", "1 KiB", "1024 KiB", "5 MiB", "3072 GiB",
    ]  # fmt: skip
