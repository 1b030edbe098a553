"""What the page opens with, where it said things that were not so."""

import pytest

from prunedlora.results.analysis.decision import decide
from prunedlora.results.analysis.serving import slot_cell, slot_sentence
from prunedlora.results.analysis.summary import summarize
from prunedlora.results.exported_adapter import ExportedAdapter
from prunedlora.results.harness_document import HarnessRun, write_harness
from prunedlora.results.record import BaseReference, Figure, TrialRecord
from prunedlora.results.report.answer import confirm_command, how_made, looked_at_text, rows_beside
from prunedlora.results.report.choices import choice_rows
from prunedlora.results.report.report import write_report

LORA = {"adapter": {"method": "lora"}}
TEST = {"accuracy": Figure(value=0.98, stderr=0.004, num_examples=1000)}


def page_of(store):
    write_report(store)
    return " ".join((store.storage.read_text("report/report.html") or "").split())


@pytest.fixture
def store(fill, record, candidate):
    store = fill(
        record("a1", candidate(0.97, 400, 5, progress=0.5), candidate(0.96, 100, 10, adapter_path="adapters/10")),
        record("l1", candidate(0.968, 800, 10), config=LORA, label="LoRA rank 8"),
    )
    store.write_base(BaseReference(figures={"accuracy": Figure(value=0.14, stderr=0.02, num_examples=400)}))
    return store


def put_test(store, key, step):
    content = '{"figures": {"accuracy": {"value": 0.95, "stderr": 0.01, "num_examples": 1000}}, "certificate": {}}'
    store.storage.write_text(f"trials/{key}/adapters/{step}/test.json", content)


def test_the_file_is_what_lies_on_the_disk(store):
    page = page_of(store)
    assert "A file of 600 B with its task head of 7 parameters" in page  # 400 B of A and B
    assert [row.sizes for row in rows_beside(summarize(store))][:2] == [("100", "600 B"), ("800", "3.32 KiB")]


def test_a_head_that_vllm_refuses_is_told_alike_everywhere(store, candidate):
    page = page_of(store)
    assert "vLLM would refuse it, since it carries a head of its own" in page
    assert "vLLM would refuse 2 of 2: they carry a head of their own." in page
    assert "fits served slot" not in page
    bare = candidate(0.9, 100, head_params=0, served_slot_bytes=2048)
    assert slot_sentence(bare) == "vLLM holds it in slots of rank 8, 2 KiB each"
    assert (slot_cell(bare), slot_cell(candidate())) == ("8 (2 KiB)", "refused")
    assert slot_cell(candidate(head_params=0, served_slot=None)) == "none"
    assert slot_sentence(candidate(head_params=0, served_slot=None, max_rank=600)).endswith("holds its rank of 600")


def test_how_many_the_test_split_was_looked_at_for(store):
    assert "not measured on the test split yet: prunedlora test" in looked_at_text(summarize(store))
    put_test(store, "l1", 10)
    assert "not measured on the test split yet (of 1 others it was)" in looked_at_text(summarize(store))
    store.write_exported(ExportedAdapter(key="a1", step=10, test=TEST, path="/x"))
    assert "looked at for 2 adapters of the sweep; nothing was chosen by it" in looked_at_text(summarize(store))
    row = {one.what: one.test for one in rows_beside(summarize(store))}
    assert row["recommended"].startswith("0.980 (95% interval 0.9")
    assert row["smallest plain LoRA that measured as good"].startswith("0.950 (95% interval 0.9")
    assert row["base model, untrained"] == ""


def test_only_this_adapter_was_looked_at(store):
    store.write_exported(ExportedAdapter(key="a1", step=10, test=TEST, path="/x"))
    assert "(1,000 examples) was looked at for this adapter only" in page_of(store)


def test_nothing_less_is_expected_beside_a_better_test_figure(store):
    assert "expect a little less" in page_of(store)
    store.write_exported(ExportedAdapter(key="a1", step=10, test=TEST, path="/x"))
    assert "expect a little less" not in page_of(store)


def test_one_training_each_only_where_that_is_so(fill, record, candidate):
    def seeded(seed):
        return record(f"s{seed}", candidate(0.9 + seed / 100, 100), config=LORA | {"seed": seed})

    assert "<strong>One training each.</strong>" in page_of(fill(seeded(0)))
    store = fill(*(seeded(seed) for seed in (1, 2)))
    assert "<strong>1 of 1 settings were trained with several seeds.</strong>" in page_of(store)


def test_the_choices_are_those_of_the_decision(store):
    summary = summarize(store)
    rows = choice_rows(decide(summary), summary)
    assert [row.cells["may be lost"] for row in rows] == [
        "nothing", "1 point, as the sweep asks", "2 points", "5 points",
    ]  # fmt: skip
    assert [row.point.name for row in rows] == ["a1@5", "a1@10", "a1@10", "a1@10"]
    assert [row.is_answer for row in rows] == [False, True, False, False]
    assert rows[1].point.name == summary.recommended.name
    assert rows[1].cells["measured worse by"] == "0.010"
    assert rows[0].cells["told"].startswith("measured")


def test_how_it_was_made(store, record, candidate):
    summary = summarize(store)
    assert [how_made(point) for point in summary.points] == [
        "prunedlora, a half-trained milestone, at 50% of its steps", "prunedlora, trained for 10 steps",
        "lora, trained for 10 steps",
    ]  # fmt: skip


def test_what_would_settle_it_is_a_command(store, fill, record):
    summary = summarize(store)
    command = f"prunedlora confirm {store.uri} recommended best --seeds 3"
    assert confirm_command(decide(summary), summary) == command
    assert f'data-copy="{command}"' in page_of(store)
    # Where both are one, the same line: confirm knows what to set beside it.
    wider = summarize(store, within=0.0)
    assert wider.recommended == wider.best
    assert confirm_command(decide(wider), wider) == command


def test_facts_of_the_sweep(store, record, candidate):
    made: TrialRecord = record("b1", candidate(0.5, 1000), config=LORA | {"data": {"task": "text_classification"}})
    data = {"fingerprint": "f", "num_examples": {"train": 2598, "validation": 400, "test": 0}}
    store.write_record(made.model_copy(update={"environment": made.environment.model_copy(update={"data": data})}), 1)
    page = page_of(store)
    assert "Task:</span> text classification</span>" in page
    assert "Base model:</span> m</span>" in page
    assert "Data:</span> 2,598 examples to train, 400 to validate</span>" in page
    assert "Measured:" not in page  # nobody drove it


def test_harness_figures_are_shown_where_there_are_any(store):
    assert "lm-evaluation-harness" not in page_of(store)
    figures = {"harness/arc_easy/acc": Figure(value=0.25, stderr=0.1, num_examples=20)}
    environment = store.read_record("a1").environment
    run = HarnessRun(
        key="a1", candidate="10", tasks=("arc_easy",), settings={"limit": 20, "batch_size": 8}, figures=figures,
        environment=environment,
    )  # fmt: skip
    write_harness(store, run)
    page = page_of(store)
    assert '<th scope="col" class="number">arc_easy/acc (limit 20)</th>' in page
    assert '<td><code>a1@10</code></td><td class="number" data-value="0.25">0.250 ± 0.100</td>' in page


def test_the_original_stands_beside_with_its_test_figure(fill, record, candidate, cut):
    config = {"adapter": {"method": "lora", "start_from": "some/adapter"}, "training": {"num_steps": 0}}
    made = candidate(0.9, 100, 0, progress=1.0, cut=cut(1), adapter_path="adapters/0r1")
    store = fill(record("a1", candidate(0.905, 800, 0, adapter_path="adapters/0"), made, config=config))
    assert "but this one was chosen: expect a little less of it." in page_of(store)
    put_test(store, "a1", "0r1")
    assert "was chosen, and the original was not measured on the test split." in page_of(store)
    put_test(store, "a1", "0")
    assert "by which nothing was chosen: 0.950 ± 0.010, the original 0.950 ± 0.010." in page_of(store)
    assert [row.what for row in rows_beside(summarize(store))] == [
        "recommended", "what it began with, best measured",
    ]  # fmt: skip
    assert rows_beside(summarize(store))[1].test.startswith("0.950")
