"""What llama.cpp makes of an adapter's forms, on a tiny model; the figures of a real one are in
tests/servers/llama_cpp_logits.json (`jobs/benchmark.py llama-cpp`)."""

from pathlib import Path

import pytest

from prunedlora.benchmarks.product.llama_cpp_logits import measure
from tests.gguf_models import tiny_language_model, write_base

PROMPTS = {"a": [5, 9, 33, 2, 17, 40, 3], "b": [60, 1, 7], "c": [8, 8, 8, 21, 4, 50]}


@pytest.mark.needs("llama-cpp")
def test_the_rule_says_what_llama_cpp_does(tmp_path: Path) -> None:
    """Of the trained folder, that each layer counts the largest rank over its own; of the others, as trained."""
    model = tiny_language_model("llama")
    figures = measure(model, write_base(model, tmp_path / "base.gguf"), PROMPTS, tmp_path)
    assert sorted(set(figures["ranks"].values())) == [1, 2, 4, 8, 16]
    assert len(figures["ranks"]) == 6
    for form, of_prompts in figures["forms"].items():
        for found in of_prompts.values():
            assert found["apart_from_rule"] < 0.01
            assert (found["apart"] < 0.01) == (form != "trained")
            assert form != "trained" or found["apart"] > 0.1
