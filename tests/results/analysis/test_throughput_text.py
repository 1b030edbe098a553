"""Tokens per second and padding in words: of a few trainings each, of many the range, of old records nothing."""

import csv
import io
import json

from rich.console import Console

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.analysis.throughput_text import throughput_text, throughputs_text
from prunedlora.results.report.overview import overview
from prunedlora.results.report.report import report_files


def test_one_training_a_few_and_many(record):
    each = [record(f"k{i}", tokens_per_second=1234.5 * i, padding_share=i / 50) for i in range(1, 6)]
    assert throughput_text(each[0]) == "1,234 tokens/s, 2% padding"
    assert throughputs_text(each[:2]) == "k1 1,234 tokens/s, 2% padding; k2 2,469 tokens/s, 4% padding"
    assert throughputs_text(each) == "1,234 to 6,172 tokens/s, 2% to 10% padding in 5 trainings"
    alike = [record(f"k{i}", tokens_per_second=1234.5, padding_share=0.131 + i / 1000) for i in range(4)]
    assert throughputs_text(alike) == "1,234 tokens/s, 13% padding in 4 trainings"
    slow = record("s", tokens_per_second=0.123, padding_share=0.0)
    assert throughput_text(slow) == "0.12 tokens/s, 0% padding"


def test_older_records_say_nothing(record):
    assert throughput_text(record("a")) == throughputs_text([record("a")]) == ""


def test_page_table_and_files_show_it_where_a_record_says(fill, record, candidate):
    """A trial of an older record among others is unknown; without any nothing is said."""
    known = record("a", candidate(0.9, 100), tokens_per_second=1234.5, padding_share=0.25)
    old = record("b", candidate(0.95, 200))
    assert "hroughput" not in report_files(summarize(fill(old)))["report.html"].decode()
    summary = summarize(fill(known, old))
    files = report_files(summary)
    page = files["report.html"].decode()
    assert "1,234 tokens/s, 25% padding</td>" in page
    assert "throughput unknown</td>" in page
    assert "Throughput: a 1,234 tokens/s, 25% padding.</p>" in page
    rows = csv.DictReader(files["candidates.csv"].decode().splitlines())
    assert [(row["tokens_per_second"], row["padding_share"]) for row in rows] == [("1234.5", "0.25"), ("", "")]
    found = json.loads(files["report.json"])["throughput"]
    assert found == {
        "a": {"tokens_per_second": 1234.5, "padding_share": 0.25},
        "b": {"tokens_per_second": None, "padding_share": None},
    }
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(overview(summary))
    assert "Throughput: a 1,234 tokens/s, 25% padding." in console.export_text()
