import io

import pytest
from rich.console import Console

from prunedlora.results.analysis.summary import summarize
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.record import Figure
from prunedlora.results.report.overview import overview, print_report


def printed(store, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(overview(summarize(store)))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_the_front_fits_and_marks_the_recommended(width, fill, record, candidate, failed):
    store = fill(
        record("0123456789abcdef", candidate(0.97, 8_388_608, 12000, max_rank=128, served_slot=128)),
        record("f" * 16, candidate(0.99, 67_108_864, 100000, max_rank=600, served_slot=None)),
        record("e" * 16, candidate(0.985, 16_777_216, 10)),
        failed("d" * 16, candidate(0.5, 99_999_999, 20), message="loss is nan\nsecond line"),
    )
    text = printed(store, width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    lines = text.splitlines()
    assert text.startswith(f"Recommended: {'e' * 16}@10, 16,777,216 parameters,")
    [marked] = [line for line in lines if line.startswith("→")]
    assert marked.split() == [
        "→",
        "0.985",
        "±",
        "0.010",
        "16,777,216",
        "64",
        "MiB",
        "2",
        "–",
        "prunedlora",
        "e" * 16,
        "10",
    ]
    assert [line for line in lines if "0.970" in line]
    assert "vLLM would refuse 3 of 3: they carry a head of their own." in text
    assert " – " in next(line for line in lines if "0.990 ± 0.010 67,108,864" in line)
    assert "1 of 4 trials failed" in text
    assert "NonFiniteLossError: loss is nan" in text
    assert "second line" not in text
    assert "left 1 candidate: 20" in text


def test_the_test_figure_is_shown_once_known(fill, record):
    store = fill(record("a1"))
    assert "It was not measured on the test split yet" in " ".join(printed(store).split())
    test = {"accuracy": Figure(value=0.44, stderr=0.02, num_examples=10)}
    store.write_exported(ExportedAdapter(key="a1", step=10, test=test, path="/x"))
    assert "On the test split, by which nothing was chosen, it has accuracy 0.440 ± 0.020" in " ".join(
        printed(store).split()
    )


def test_brackets_in_names_are_no_markup(fill, record, failed):
    config = {"adapter": {"method": "[red]x"}}
    text = printed(fill(record("a1", config=config), failed("b2", message="[bold]no[/bold] [/nothing]"), name="[x]"))
    assert "[red]x" in text
    assert "[bold]no[/bold] [/nothing]" in text
    assert "Front of [x]" in text


def test_no_answer_says_why(fill, failed):
    store = fill()
    assert printed(store) == "No trial has finished yet: nothing to recommend.\n"
    store.write_record(failed("a1"), 1)
    assert printed(store).startswith("All 1 trials failed: nothing to recommend.")


def test_print_report_ends_with_paths_that_can_be_copied(fill, record, tmp_path):
    store = fill(record("a1"))
    console = Console(file=io.StringIO(), width=40)
    print_report(summarize(store), console)
    lines = console.file.getvalue().splitlines()
    assert lines[-2:] == [f"Report: {store.uri}/report/report.html", f"Adapter: {store.uri}/trials/a1/adapters/10"]
    test = {"accuracy": Figure(value=0.44, num_examples=10)}
    store.write_exported(ExportedAdapter(key="a1", step=10, test=test, path="/x/recommended"))
    print_report(summarize(store), console)
    assert console.file.getvalue().splitlines()[-1] == f"Adapter: {store.uri}/recommended"
