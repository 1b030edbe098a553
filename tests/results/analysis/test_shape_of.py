"""What the servers' rules see of a record."""

import pytest

from prunedlora.results.analysis.shape_of import shape_of
from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind

WIDTHS = {"a.q": (8, 8), "a.v": (8, 4), "b.q": (8, 8)}


def test_layers_of_rank_0_are_left_out_and_the_rest_is_as_recorded(record, candidate):
    one = candidate(ranks={"a.q": 4, "a.v": 0, "b.q": 2}, head_params=0)
    assert shape_of(record("a1", one, layer_widths=WIDTHS), one) == AdapterShape(
        Kind.TRAINED, {"a.q": 4, "b.q": 2}, WIDTHS
    )


def test_head_and_type_of_the_model_are_on_record(record, candidate):
    one = candidate(head_params=7)
    before = record("a1", one)
    after = before.model_copy(
        update={
            "config": {"adapter": {"method": "lora", "head_modules": ["score"]}},
            "environment": before.environment.model_copy(update={"model": {"model_type": "llama"}}),
        }
    )
    assert (shape_of(before, one).head_names, shape_of(before, one).model_type) == ((), None)
    shape = shape_of(after, one)
    assert (shape.head_params, shape.head_names, shape.model_type, shape.widths) == (7, ("score",), "llama", None)


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ({"name": "m"}, Base.PLAIN),
        ({"name": "m", "quantization": None, "gguf_file": None}, Base.PLAIN),
        ({"name": "m", "quantization": "nf4"}, Base.QUANTIZED),
        ({"name": "m", "gguf_file": "m.gguf"}, Base.GGUF),
    ],
)
def test_the_base_is_kept_as_the_configuration_says(model, base, record, candidate):
    one = candidate()
    assert shape_of(record("a1", one, config={"model": model}), one).base == base


def test_a_candidate_without_an_adapter_is_refused(record, candidate):
    one = candidate(ranks={"a.q": 0})
    with pytest.raises(ValueError, match=r"a1@10 has no adapter: no layer has a rank above 0"):
        shape_of(record("a1", one), one)
