"""A sweep's adapters for servers, and for others than it was made for: page, terminal, JSON, tables."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunedlora.cli import app
from prunedlora.results.analysis.summary import export_command, has_forms, summarize
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.report.answer import looked_at_text
from prunedlora.results.report.open_store import open_store
from prunedlora.results.report.report import report_folder
from tests.decoder_sizes import WIDTHS, candidate_fields

SPIKY = {"0.q_proj": 8, "0.v_proj": 1, "1.q_proj": 1, "1.v_proj": 1, "2.q_proj": 1, "2.v_proj": 1}
EVEN = {"*.q_proj": 4, "*.k_proj": 4, "*.v_proj": 4}
HUGE = {"*.q_proj": 600}


@pytest.fixture
def made(fill, record, candidate):
    """made(**fields of the sweep): three adapters as good, the first of which is the smallest as it was trained."""

    def make(**fields):
        each = {"a1": SPIKY, "b2": EVEN, "c3": HUGE}
        return fill(
            *(record(key, candidate(0.9, **_changes(ranks)), layer_widths=WIDTHS) for key, ranks in each.items()),
            **fields,
        )

    return make


def _changes(ranks):
    return candidate_fields(ranks) | {"params": candidate_fields(ranks)["adapter_params"]}


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_what_is_recommended_hangs_on_the_servers(made):
    store = made()
    trained, served = summarize(store), summarize(store, serve_on=["sglang", "vllm"])
    assert (trained.recommended.key, served.recommended.key) == ("a1", "b2")
    assert [point.key for point in served.points] == ["a1", "b2"]
    assert served.recommended.size == candidate_fields(EVEN)["adapter_params"]
    store.write_sweep(store.read_sweep() | {"serve_on": ["sglang"]})  # which may change
    own = store
    assert summarize(own).recommended.key == "b2"
    assert summarize(own, serve_on=[]).recommended.key == "a1"
    assert export_command(summarize(own), summarize(own).recommended).endswith(" --serve-on sglang")
    assert "--serve-on" not in export_command(trained, trained.recommended)


def test_commands_are_for_the_servers_asked_for(made):
    """One for each form that they need; and a name that means the same adapter to whoever runs them."""
    store = made()
    two = summarize(store, serve_on=["sglang", "vllm"])
    spiky = next(point for point in two.points if point.key == "a1")
    first, second = export_command(two, spiky).split(" && ")
    assert first.endswith("/a1-10-vllm --serve-on vllm")
    assert second.endswith("/a1-10-sglang --serve-on sglang")
    assert f"prunedlora test {store.uri} {two.recommended.name} does." in looked_at_text(two)
    assert f"prunedlora test {store.uri} recommended does." in looked_at_text(summarize(store))


def test_a_copy_for_other_servers_is_not_called_theirs(made):
    store = made()
    copied = summarize(store).recommended
    store.write_exported(ExportedAdapter(key=copied.key, step=copied.candidate.step, test={}, path="recommended"))
    assert summarize(store).exported is not None
    assert summarize(store, serve_on=["vllm"]).exported is not None
    assert not has_forms(copied, ["sglang"], [])
    assert has_forms(copied, ["sglang"], ["sglang"])


def test_recommend_asks_for_servers_and_says_what_it_means(made):
    store = made()
    told = run("recommend", store.uri, "--serve-on", "sglang,vllm", "--within", "0")
    assert "Recommended: b2@10" in told
    assert (
        "Sizes are as vLLM and SGLang need them: of this adapter a PEFT folder of the trained ranks for vLLM " in told
    )
    assert "1 of 3 adapters are served right in no form by vLLM: its largest slot holds rank 512, and the" in told
    document = json.loads(run("recommend", store.uri, "--serve-on", "sglang", "--serve-on", "vllm", "--json"))
    assert document["serve_on"] == ["vllm", "sglang"]
    why = "its largest slot holds rank 512, and the adapter has 600"
    assert document["served_by_none"] == {"vllm": {why: 1}}
    assert document["recommended"]["form_sglang"] == "trained"
    plain = run("recommend", store.uri)
    assert "Sizes are as" not in plain


def test_a_report_for_other_servers_has_a_folder_of_its_own(made):
    store = made(serve_on=["vllm"])
    run("report", store.uri)
    own = Path(store.uri, "report", "report.html").read_text()
    assert "as vLLM needs it" in own
    before = Path(store.uri, "report", "report.json").read_bytes()
    told = run("report", store.uri, "--serve-on", "sglang")
    assert f"{store.uri}/report/served-on-sglang/report.html" in told
    assert Path(store.uri, "report", "report.json").read_bytes() == before
    written = json.loads(Path(store.uri, "report", "served-on-sglang", "report.json").read_text())
    assert [row["served_adapter_params"] for row in written["front"]] == [candidate_fields(EVEN)["adapter_params"]]
    assert written["front"][0]["form_sglang"] == "trained"
    assert "as SGLang needs it" in Path(store.uri, "report", "served-on-sglang", "report.html").read_text()
    summary = summarize(store, size="max_rank", serve_on=[])
    assert report_folder(summary) == "report/max_rank/served-on-none"
    assert report_folder(summarize(store, serve_on=["vllm"])) == "report"


def test_where_no_adapter_is_served_right_the_answer_says_why(made):
    store = made()
    summary = summarize(store, serve_on=["tensorrt-llm"], records=[store.read_record("c3")])
    assert summary.recommended is not None  # of one rank, whatever that is
    summary = summarize(store, serve_on=["vllm"], records=[store.read_record("c3")])
    assert summary.missing_answer() == (
        "No adapter is served right by all of vllm: nothing to recommend. vLLM: its largest slot holds rank 512, and "
        "the adapter has 600. `--serve-on none` asks for sizes as trained."
    )


def test_notebooks_have_forms_and_served_sizes_as_columns(made):
    store = made()
    opened = open_store(store.uri, serve_on=["sglang", "vllm"])
    table = opened.candidates
    assert list(table["form_sglang"]) == ["uniform", "trained", "uniform"]
    assert list(table["form_vllm"])[:2] == ["trained", "trained"]
    assert table["form_vllm"]["c3@10"].startswith("refused: its largest slot")
    assert table["served_max_rank"]["a1@10"] == 8
    assert "served_max_rank" not in open_store(store.uri).candidates


@pytest.mark.parametrize(
    ("given", "message"), [("ollama", "'ollama' is none of peft, vllm,"), ("vllm,vllm", "names 'vllm' twice")]
)
def test_servers_that_there_are_not(given, message, made):
    result = CliRunner().invoke(app, ["recommend", made().uri, "--serve-on", given], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert message in result.output
