import csv
import io
import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from prunedlora.config.metric_names import COLUMNS, taken_names
from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.latency_document import Conditions, Latency, write_latency
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.ask import TOO_LARGE, Ask
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.figure_text import bytes_text, figure_text
from prunedlora.results.importances_document import Importances, ObjectiveImportances, write_importances
from prunedlora.results.record import BaseReference, Beaten, Decision, Figure, JudgedByLoss, Look, RecordError
from prunedlora.results.report.front_chart import front_chart
from prunedlora.results.report.front_files import candidate_rows, columns_of, front_document, front_rows
from prunedlora.results.report.front_png import front_png
from prunedlora.results.report.overview import overview
from prunedlora.results.report.parallel_chart import parallel_chart
from prunedlora.results.report.report import write_report
from prunedlora.results.report.verdict import decision_document
from prunedlora.results.storage import StoreError
from prunedlora.results.store import Store

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)> \"'`\n日本"
ROW_KEYS = {
    "key", "step", "candidate", "rung", "branch_steps", "cut", "cut_basis", "cut_allocation", "cut_unit", "cut_size",
    "accuracy", "accuracy_stderr", "num_examples", "is_original", "times_smaller_than_original",
    "difference_from_original", "difference_from_original_stderr", "difference_from_original_paired",
    "adapter_params", "adapter_bytes", "file_bytes", "max_rank", "served_slot", "served_slot_bytes", "vllm",
    "adapter_path", "config",
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
        failed("d4", candidate(0.7, 170), message="loss is nan"),
    )
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.14, stderr=0.02, num_examples=400)}))
    return store


def page_of(store):
    return write_report(store) and read(store, "report.html")


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
    assert (row["served_slot"], row["vllm"]) == (8, "vLLM would refuse it, since it carries a head of its own")
    assert (row["accuracy"], row["accuracy_stderr"], row["num_examples"]) == (0.96, 0.01, 400)
    assert row["config"] == filled.read_record("a1").config


def test_recommended_in_front_json(filled):
    recommended = json.loads(read(write_report(filled).store, "front.json"))["recommended"]
    assert recommended.keys() >= ROW_KEYS
    assert (recommended["key"], recommended["step"], recommended["within"]) == ("a1", 5, 0.01)
    assert recommended["validation"]["accuracy"] == {"value": 0.97, "stderr": 0.01, "num_examples": 400}
    assert recommended["validation"]["loss"]["value"] == pytest.approx(0.03)
    assert (recommended["test"], recommended["path"]) == (None, None)

    test = {"accuracy": Figure(value=0.93, stderr=0.0081, num_examples=1000)}
    filled.write_exported(ExportedAdapter(key="a1", step=5, test=test, path="/x/recommended"))
    write_report(filled)
    recommended = json.loads(read(filled, "front.json"))["recommended"]
    assert recommended["test"] == {"accuracy": {"value": 0.93, "stderr": 0.0081, "num_examples": 1000}}
    assert recommended["path"] == f"{filled.uri}/recommended"  # where it lies, wherever it was written to

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
    filled.write_command("python jobs/search.py x.yaml")
    write_report(filled)
    words = Page(read(filled, "report.html")).words
    answer = words[words.index("Ship a1@5") :]
    assert answer.startswith(
        "Ship a1@5 : 400 parameters, accuracy 0.970 (95% interval for the best of 6 0.940–0.988) on validation, by "
        "which it was chosen. A file of 1.76 KiB with its task head of 7 parameters; largest rank 2; vLLM would "
        "refuse it, since it carries a head of its own. "
        "Made by prunedlora, trained for 5 steps."
    )
    assert f"prunedlora export {filled.uri} a1@5 --to adapters/a1-5 Copy It is the smallest adapter" in answer
    assert f"not measured on the test split yet: prunedlora test {filled.uri} recommended does" in answer
    for part in ("LoRA rank 8", "NonFiniteLossError : loss is nan", "python jobs/search.py x.yaml", "torch 2.13"):
        assert part in words.replace("Error:", "Error :")


def test_the_page_says_what_the_test_split_gave(filled):
    test = {"accuracy": Figure(value=0.93, stderr=0.0081, num_examples=1000)}
    filled.write_exported(ExportedAdapter(key="a1", step=5, test=test, path="/x/recommended"))
    words = Page(page_of(filled)).words
    assert "Ship a1@5 : 400 parameters, accuracy 0.930 (95% interval 0.912–0.945) on test." in words
    assert "what the recommended adapter is worth: 0.930 ± 0.008 there, 0.970 ± 0.010 on validation" in words
    assert "test split (1,000 examples) was looked at for this adapter only" in words
    assert f"{filled.uri}/recommended" in words
    assert "/x/recommended" not in words


def test_the_chart_shows_every_kind(filled):
    html = page_of(filled)
    names = set(re.findall(r'"name":"([^"]*)"', html))
    assert {
        "prunedlora", "prunedlora, dominated", "lora", "front", "recommended", "base model, untrained",
    } <= names  # fmt: skip
    assert '"symbol":"diamond"' in html
    assert '"type":"log"' in html
    assert '"error_y"' in html


def test_the_page_says_how_sure_it_is_and_where_the_components_are(filled):
    html = page_of(filled)
    words = Page(html).words
    assert "With 95% confidence, for all adapters at once, it is at most" in words
    assert f"prunedlora confirm {filled.uri} recommended best --seeds 3" in words
    for div in ("front", "history_trials", "history_seconds", "ranks"):
        assert f'id="{div}"' in html
    assert '"type":"heatmap"' in html
    assert html.count("plotly.js v") == 1  # the library is in there once


def test_doubt_seeds_and_latencies_are_shown_where_they_are_known(fill, record, candidate):
    def seeded(seed, rank):
        return {"adapter": {"method": "lora", "initial_rank": rank}, "seed": seed}

    store = fill(
        *(record(f"s{seed}", candidate(0.80 + 0.01 * seed, 50), config=seeded(seed, 4)) for seed in (1, 2)),
        *(record(f"l{seed}", candidate(0.82 + 0.01 * seed, 500), config=seeded(seed, 8)) for seed in (1, 2)),
    )
    conditions = Conditions(
        device="H200", machine="EPYC", num_threads=1, dtype="bfloat16", batch_size=4, num_tokens=64, packages={}
    )  # fmt: skip
    seconds = {"load_seconds": (0.5,), "base_seconds": (0.02,), "adapter_seconds": (0.03,), "merged_seconds": (0.02,)}
    write_latency(store, "l2", "10", Latency(conditions=conditions, **seconds))
    page = Page(page_of(store))
    assert "over the 2 configurations trained with each of them; with so few seeds, hardly a band" in page.words
    assert "2 of 2 settings were trained with several seeds." in page.words
    assert "One training each" not in page.words
    assert "no outcomes by example are on record" in page.words  # of the made-up candidates
    assert "30 (×1.50)" in page.words
    assert "50&#37; of 2 seeds attain" in "".join(page.scripts)
    found = json.loads(read(store, "report.json"))
    assert found["attainment"]["seeds"] == [1, 2]
    assert found["decision"]["recommended"]["candidate"] == "l2@10"


def test_the_page_is_self_contained(filled):
    html = page_of(filled)
    assert "default-src 'none'" in html
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
    store = fill(
        record("a1", candidate(ranks={f"layers.0.{EVIL}": 2}), config=evil, label=EVIL),
        record("b2", candidate(0.4, 200), label=EVIL, status="stopped"),
        failed("c3", message=EVIL),
        **names,
    )
    store.write_command(EVIL)
    store.binding.write_contents({EVIL: EVIL})
    choices = json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": [EVIL, "x"]}})
    store.write_ask(
        Ask(number=0, key="a1", kind="search", params={EVIL: EVIL}, distributions={EVIL: choices}, system_attrs={})
    )
    shares = {"accuracy": ObjectiveImportances(shares={EVIL: 1.0})}
    write_importances(store, Importances(evaluator=EVIL, num_trials=10, num_best=5, objectives=shares))
    write_report(store)
    html = read(store, "report.html")
    page = Page(html)
    assert page.handlers == []
    assert "img" not in page.tags
    assert "<script>alert" not in html
    assert page.tags.count("script") == 3 + html.count('class="chart')  # the frame's own, and each chart's figure
    assert "alert('x')</script><img src=x onerror=alert(1)>" in page.words
    assert "日本" in page.words
    # Texts of a chart are HTML to Plotly: a tag in them must reach it as text, and a value is no template.
    figures = [script for script in page.scripts if "alert" in script]
    assert len(figures) == 4  # front, importances, parallel coordinates, ranks
    for script in figures:
        data = json.dumps(json.loads(script)["data"], ensure_ascii=False)
        assert "<img" not in data
        assert "&lt;/script" in data
    assert json.loads(read(store, "front.json"))["front"][0]["config"] == evil
    assert next(csv.DictReader(io.StringIO(read(store, "front.csv"))))[f"config.{EVIL}"] == EVIL


def test_stores_without_an_answer_say_why(fill, record, candidate, failed):
    store = fill()
    for records, message in [
        ([], "No trial has finished yet"),
        ([failed("a1"), failed("b2")], "All 2 trials failed: nothing to recommend"),
        ([record("c3", status="stopped", candidates=())], "No trial has a candidate that can stand on the axes"),
        ([record("d4", candidate(params=0, adapter_path=None))], "No candidate has an adapter file"),
    ]:
        for each in records:
            store.write_record(each, 1)
        summary = write_report(store)
        assert message in summary.missing_answer()
        assert message in Page(read(store, "report.html")).words
        assert "listed below" not in summary.missing_answer()
        found = json.loads(read(store, "front.json"))
        assert found["recommended"] is None
        assert len(found["front"]) == (1 if "file" in message else 0)
        assert read(store, "front.csv").startswith("key,step")


def test_empty_adapters_have_a_place_on_the_logarithmic_axis(fill, record, candidate):
    store = fill(record("a1", candidate(0.5, 0, adapter_path=None)), record("b2", candidate(0.6, 150)))
    html = page_of(store)
    [word] = front_chart(summarize(store), []).layout.annotations
    assert (word.text, word.x) == ("empty", pytest.approx(np.log10(50)))
    assert "whose ranks are all 0 stand at the left edge" in Page(html).words


def test_one_trial_is_its_own_best(fill, record):
    words = Page(page_of(fill(record()))).words
    assert "No plain LoRA was trained here. It is itself the best complete adapter." in words


def test_a_report_on_an_object_store(uri, sweep, record):
    store = Store(uri)
    with pytest.raises(StoreError, match="is no store"):
        write_report(store)
    store.create_or_open(sweep)
    store.write_record(record("a1"), 1)
    write_report(store)
    assert store.storage.names("report") == [
        "candidates.csv", "front.csv", "front.json", "front.png", "report.html", "report.json",
    ]  # fmt: skip
    assert json.loads(read(store, "front.json"))["front"][0]["adapter_path"] == f"{store.uri}/trials/a1/adapters/10"


def test_figures_as_text():
    assert figure_text(Figure(value=0.86449, stderr=0.0172, num_examples=400)) == "0.864 ± 0.017"
    assert figure_text(Figure(value=1.0, num_examples=1)) == "1.000"
    assert [bytes_text(n) for n in (0, 999, 1024, 1_048_064, 5 << 20, 3 << 40)] == [
        "0 B", "999 B", "1 KiB", "1024 KiB", "5 MiB", "3072 GiB",
    ]  # fmt: skip


def test_report_json_has_what_the_page_shows(filled):
    filled.write_command("prunedlora search x.yaml")
    filled.binding.write_contents({"package:m": "m 1.0"})
    shares = {"accuracy": ObjectiveImportances(shares={"optimizer.learning_rate": 1.0})}
    write_importances(filled, Importances(evaluator="e", num_trials=12, num_best=5, objectives=shares))
    write_report(filled)
    found, front = json.loads(read(filled, "report.json")), json.loads(read(filled, "front.json"))
    assert {name: found[name] for name in front} == front
    assert found["best"]["key"] == "c3"
    assert [stage["num_trials"] for stage in found["history"]] == [1, 2, 3, 4]
    assert found["history"][-1]["hypervolume"] == pytest.approx(found["hypervolume"])
    assert found["importances"]["objectives"]["accuracy"]["shares"] == {"optimizer.learning_rate": 1.0}
    assert [(one["key"], one["message"]) for one in found["failed"]] == [("d4", "loss is nan")]
    assert [(one["name"], one["accuracy"]["value"]) for one in found["failed"][0]["candidates"]] == [("10", 0.7)]
    assert [(one["key"], one["candidates"][-1]["accuracy"]["value"]) for one in found["stopped"]] == [("b2", 0.4)]
    assert (found["command"], found["contents"]) == ("prunedlora search x.yaml", {"package:m": "m 1.0"})
    assert [(one["num_trials"], one["packages"]) for one in found["environments"]] == [(4, {"torch": "2.13"})]


def test_front_png_is_a_picture_and_the_same_each_time(filled):
    write_report(filled)
    picture = Path(filled.uri, "report", "front.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1600, 1000)
    assert front_png(summarize(filled)) == picture
    filled.write_base(BaseReference(figures={}))
    assert front_png(summarize(filled)) != picture  # without the base model's line


def test_failed_and_stopped_trials_are_listed(filled):
    words = Page(page_of(filled)).words
    assert "1 of 4 trials failed; the candidates that they left before count" in words
    assert (
        "left before step learning rate attempts d4 NonFiniteLossError : loss is nan where Traceback: … "
        "1 candidate: 10 3" in words
    )
    assert "1 of 4 trials were stopped early" in words
    assert "they promised less than others; their candidates count" in words
    assert "b2 100% 0.400 ± 0.010 60" in words  # by another rule: where, and by whom, is not known


def test_stopped_trials_say_where_and_by_whom(fill, record, candidate):
    beaten = tuple(Beaten(size=size, by=by) for size, by in ((4.0, "a1"), (8.0, "c3"), (9.0, "a1")))
    figure = Figure(value=1.0, num_examples=2)
    look = Look(step=20, share=0.1, loss=figure, decision=Decision(stops=True, beaten_by=beaten))
    store = fill(record("a1"), record("b2", status="stopped").model_copy(update={"candidates": (), "looks": (look,)}))
    words = Page(page_of(store)).words
    assert "b2 10% of its steps a1, c3 no candidate measured" in words
    assert "their candidates count" not in words
    (found,) = json.loads(read(store, "report.json"))["stopped"]
    assert (found["share"], found["step"], found["candidates"]) == (0.1, 20, [])
    assert [(each["size"], each["by"]) for each in found["beaten_by"]] == [(4.0, "a1"), (8.0, "c3"), (9.0, "a1")]


def test_suggestions_that_were_too_large_are_counted(filled):
    assert "passed over" not in Page(page_of(filled)).words
    for number in range(2):
        ask(filled, number, "a1", {"optimizer.learning_rate": 0.1}, {TOO_LARGE: "too large"})
    said = "2 suggestions were passed over as too large: none of their adapters could keep the constraints."
    summary = write_report(filled)
    assert said in Page(read(filled, "report.html")).words
    assert json.loads(read(filled, "report.json"))["num_too_large"] == 2
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(overview(summary))
    assert said in console.export_text()


def test_the_page_says_why_there_are_no_importances(filled):
    assert "Nothing was searched: this sweep runs a list of trials" in Page(page_of(filled)).words
    ask(filled, 0, "a1", {"optimizer.learning_rate": 0.1})
    assert "Importances were not worked out: a run of the sweep writes them at its end" in Page(page_of(filled)).words
    reason = {"accuracy": ObjectiveImportances(shares=None, reason="1 completed search trials are too few")}
    write_importances(filled, Importances(evaluator="e", num_trials=1, num_best=0, objectives=reason))
    assert "for accuracy No importances: 1 completed search trials are too few." in Page(page_of(filled)).words
    shares = {"accuracy": ObjectiveImportances(shares={"optimizer.learning_rate": 0.25, "pruning.x": 0.75})}
    write_importances(filled, Importances(evaluator="e", num_trials=12, num_best=5, objectives=shares))
    html = page_of(filled)
    assert "Importances for accuracy: pruning.x 75%, optimizer.learning_rate 25%." in html
    assert "from so few trials it is a hint at most" in Page(html).words
    filled.storage.write_text("importances.json", "{}")
    with pytest.raises(RecordError, match=r"importances.json: not a valid Importances: evaluator: Field required"):
        write_report(filled)


def test_importances_are_shares_or_a_reason():
    with pytest.raises(ValueError, match="either shares or a reason"):
        ObjectiveImportances(shares=None)


def ask(store, number, key, params, system_attrs=None):
    attributes = {"low": 0.01, "high": 1.0, "log": True, "step": None}
    text = json.dumps({"name": "FloatDistribution", "attributes": attributes})
    distributions = dict.fromkeys(params, text)
    store.write_ask(
        Ask(
            number=number,
            key=key,
            kind="search",
            params=params,
            distributions=distributions,
            system_attrs=system_attrs or {},
        )
    )


def test_parallel_coordinates_have_a_line_per_trial_of_the_search(filled, failed):
    filled.write_record(failed("e5"), 1)
    ask(filled, 3, "e5", {"optimizer.learning_rate": 0.01})  # left nothing
    ask(filled, 0, "a1", {"optimizer.learning_rate": 0.1, "pruning.damping": 0.1})
    ask(filled, 1, "b2", {"optimizer.learning_rate": 1.0})  # a conditional field is not set
    ask(filled, 2, "d4", {"optimizer.learning_rate": 0.001})  # failed later
    [lines] = parallel_chart(summarize(filled)).data
    learning_rate, damping, size, quality = lines.dimensions
    assert [one.label for one in lines.dimensions] == [
        "optimizer.learning_rate", "pruning.damping", "adapter parameters", "accuracy",
    ]  # fmt: skip
    assert np.allclose(learning_rate["values"], [-1.0, 0.0, -3.0])
    assert damping.ticktext[0] == "not set"
    assert damping["values"][1] == pytest.approx(damping.tickvals[0])
    assert damping.tickvals[0] < -2.0
    assert np.allclose(size["values"], np.log10([100, 60, 170]))
    assert np.allclose(quality["values"], [0.96, 0.4, 0.7])


def test_many_candidates_are_drawn_without_bars(fill, record, candidate):
    candidates = [candidate(0.1 + step / 10_000, 10_000 - step, step + 1) for step in range(600)]
    store = fill(record("a1", candidate(0.9, 1, 1)), record("b2", *candidates))
    words = Page(page_of(store)).words
    assert "(of the 600 beaten candidates in their hover texts only)" in words
    beaten, best = front_chart(summarize(store), []).data[:2]
    assert (len(beaten.x), beaten.error_y.array) == (600, None)
    assert len(best.error_y.array) == len(best.x) == 1


def test_no_function_of_one_s_own_is_called_as_a_column_is(fill, record, candidate):
    """The list in the configuration is that of these files; a new column belongs there too."""
    name = "closeness"
    objectives = {name: "maximize", "adapter_params": "minimize"}
    figures = {metric: Figure(value=0.5, stderr=0.01, num_examples=400) for metric in (name, "loss", "accuracy")}
    judged = JudgedByLoss(beaten_by="a@1", num_examples=2, difference=0.5, stderr=0.1)
    made = [candidate(0.5, 100 * n, n, figures=figures) for n in (1, 2)]
    with_all = [made[0], made[1].model_copy(update={"judged_by_loss": judged})]
    summary = summarize(fill(record("a", *with_all), objectives=objectives))
    front = front_document(summary)
    verdict = decision_document(decide(summary), summary)
    columns = {
        *columns_of(candidate_rows(summary)), *columns_of(front_rows(summary)),
        *front["front"][0], *front["recommended"], *verdict["recommended"],
    }  # fmt: skip
    own = {name, f"{name}_stderr", f"{name}_num_examples"}
    ours = {column for column in columns if not column.startswith("config.")} - own
    assert ours <= taken_names()
    assert {*COLUMNS} <= ours


@pytest.mark.parametrize("fails", [True, False])
def test_importances_of_a_search_without_a_usable_trial(fails, fill, record, candidate, failed):
    """Directions are told of none, though importances.json is there and says why it holds no shares."""
    store = fill(failed("a1") if fails else record("a1", status="stopped", candidates=()))
    store.write_ask(Ask(number=0, key="a1", params={"rank": 4}, distributions={}, system_attrs={}, kind="search"))
    reason = ObjectiveImportances(shares=None, reason="no completed trials")
    found = Importances(
        evaluator="e", num_trials=0, num_best=0, objectives={"accuracy": reason, "adapter_params": reason}
    )
    write_importances(store, found)
    words = Page(page_of(store)).words
    assert "No importances: no completed trials." in words
    assert json.loads(read(store, "report.json"))["directions"] == {}


def test_an_adapter_no_better_than_the_base_is_warned_of_first(filled):
    base = Figure(value=0.95, stderr=0.01, num_examples=400)
    assert "WARNING" not in Page(page_of(filled)).words
    filled.write_base(BaseReference(figures={"accuracy": base}))
    words = Page(page_of(filled)).words
    told = "WARNING: a1@5 is not clearly better than the untrained base model: accuracy 0.970 ± 0.010 against 0.950"
    assert words.index(told) < words.index("Ship a1@5")
    assert json.loads(read(filled, "report.json"))["decision"]["warning"].startswith(told)
