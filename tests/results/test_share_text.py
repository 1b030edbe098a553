from prunedlora.results.figure_text import figure_text, no_error_text
from prunedlora.results.record import Environment, Figure
from prunedlora.results.report.report import write_report
from prunedlora.results.share_text import FACT, record_share_text, share_text

SHARE = {
    "num_layers": 14, "num_linear": 29, "layer_params": 450, "base_params": 1000, "unreached": {}, "stacked": {},
    "problem": None,
}  # fmt: skip


def test_what_is_adapted_and_what_is_left_out_for_which_reason():
    assert share_text(SHARE) == "adapts 14 of 29 linear layers (45 % of the base's parameters)"
    parts = {"unreached": {"model.vision_tower": 15}, "stacked": {"b.down": 20, "a.up": 800}, "problem": "needs CUDA"}
    assert share_text(SHARE | parts).split("; ")[1:] == [
        "no gradient from this task, so not adapted: model.vision_tower (15)",
        "experts stacked in one tensor (82 % of the base's parameters) are not adapted: a.up, b.down",
        "which layers get a gradient is not known, and all are taken to: needs CUDA",
    ]


def test_a_part_that_rounds_to_nothing_is_not_nothing():
    assert "(0.045 % of the base's parameters)" in share_text(SHARE | {"base_params": 1_000_000})


def _environment(model):
    return Environment(packages={}, device="cpu", num_workers=1, model=model, data={})


def test_records_that_do_not_say_have_no_text(record):
    assert record_share_text(record()) is None
    assert record_share_text(record(environment=_environment({FACT: SHARE}))) == share_text(SHARE)


def test_the_report_says_it_for_every_trial(fill, record, candidate):
    environment = _environment({FACT: SHARE | {"unreached": {"<b>tower": 15}}})
    store = fill(
        record("a1", candidate(0.5, 100), environment=environment),
        record("b2", candidate(0.6, 200), environment=environment),
        record("c3", candidate(0.7, 300)),
    )
    write_report(store)
    page = store.storage.read_text("report/report.html")
    assert "2 trials: adapts 14 of 29 linear layers (45 % of the base&#39;s parameters)" in page
    assert "not adapted: &lt;b&gt;tower (15)." in page


def test_an_error_of_0_is_none_that_could_be_told():
    some, none = (Figure(value=0.5, stderr=stderr, num_examples=9) for stderr in (0.0, None))
    assert [figure_text(each) for each in (some, none)] == ["0.500", "0.500"]
    assert figure_text(some.model_copy(update={"stderr": 0.0004})) == "0.500 ± 0.000"
    assert no_error_text([none, some]).startswith("Without ±: figures that no example changes when it alone is left")
    assert no_error_text([none]) == ""
