"""Sizes of an adapter as servers need it: as files that are really written so, and of several the largest."""

import itertools
import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunedlora.adapters.export import CONFIG_NAME, KEY_PREFIX, WEIGHTS_NAME
from prunedlora.adapters.repack import make_uniform
from prunedlora.results.analysis.pareto import Objectives, ObjectivesError, points
from prunedlora.results.analysis.served_size import forms_of, objective_on, recorded_sizes, refusals, served_sizes
from prunedlora.results.record import ObjectiveError
from prunedlora.servers.adapter_shape import Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Refused
from prunedlora.sizes import SIZES
from tests.decoder_sizes import WIDTHS, candidate_fields, random_ranks

UNEQUAL = {"*.q_proj": 4, "0.v_proj": 2, "1.v_proj": 2}
EQUAL = {"*.q_proj": 4, "*.v_proj": 4, "*.k_proj": 4}


@pytest.fixture
def made(record, candidate):
    """made(ranks, model_type=…, **other fields of the candidate): a record, and its one candidate"""

    def make(ranks, key="a1", model_type="llama", **changes):
        one = candidate(**(candidate_fields(ranks) | changes))
        found = record(key, one, layer_widths=WIDTHS)
        model = found.environment.model_copy(update={"model": {"model_type": model_type}})
        return found.model_copy(update={"environment": model}), one

    return make


def test_without_servers_sizes_are_as_recorded(made):
    of, one = made(UNEQUAL)
    assert served_sizes(of, one, []) == recorded_sizes(one) == {name: getattr(one, name) for name in SIZES}
    assert objective_on(of, one, "accuracy", ["sglang"]) == 0.5
    assert objective_on(of, one, "adapter_params", []) == one.adapter_params


@pytest.mark.parametrize(("server", "rank"), [("sglang", 4), ("lorax", 8)])
def test_a_uniform_form_is_as_large_as_the_file_that_is_written(server, rank, made, tmp_path):
    of, one = made(UNEQUAL)
    state = {}
    for name, own in one.ranks.items():
        d_in, d_out = WIDTHS[name]
        state[f"{KEY_PREFIX}{name}.lora_A.weight"] = torch.ones(own, d_in)
        state[f"{KEY_PREFIX}{name}.lora_B.weight"] = torch.ones(d_out, own)
    save_file(state, tmp_path / WEIGHTS_NAME)
    (tmp_path / CONFIG_NAME).write_text(json.dumps({"exclude_modules": None}))
    file = tmp_path / WEIGHTS_NAME
    before = file.stat().st_size
    header = before - 4 * one.adapter_params
    one = one.model_copy(update={"file_bytes": before})
    form = forms_of(of, one, [server])[server]
    assert (form.kind, form.rank) == (Kind.UNIFORM, rank)
    make_uniform(tmp_path, form.rank, WIDTHS)
    numbers = sum(tensor.numel() for tensor in load_file(file).values())
    sizes = served_sizes(of, one, [server])
    assert sizes["adapter_params"] == numbers == rank * 3 * (16 + 12 + 12)  # k beside q and v
    assert sizes["adapter_bytes"] == 4 * numbers
    assert sizes["file_bytes"] == header + 4 * numbers  # the longer header apart
    assert (sizes["max_rank"], sizes["served_slot"]) == (rank, 8)
    assert sizes["served_slot_bytes"] == one.served_slot_bytes


def test_what_serves_it_as_it_is_costs_no_more_and_a_merged_model_nothing(made):
    of, one = made(UNEQUAL)
    assert {name: forms_of(of, one, [name])[name].kind for name in ("vllm", "llama.cpp", "mlx")} == {
        "vllm": Kind.TRAINED,
        "llama.cpp": Kind.GGUF,
        "mlx": Kind.MERGED,
    }
    assert served_sizes(of, one, ["vllm", "llama.cpp", "mlx"]) == recorded_sizes(one)
    equal, two = made(EQUAL)
    assert served_sizes(equal, two, ["sglang", "vllm", "peft"]) == recorded_sizes(two)


def test_a_larger_rank_may_need_a_larger_slot(made):
    of, one = made({"*.q_proj": 9, "0.v_proj": 8})
    sizes = served_sizes(of, one, ["lorax"])
    assert (one.served_slot, sizes["served_slot"], sizes["max_rank"]) == (16, 16, 16)
    of, one = made({"*.q_proj": 7, "0.v_proj": 1}, served_slot_bytes=None)
    with pytest.raises(ObjectiveError, match="'served_slot_bytes' has no value"):
        objective_on(of, one, "served_slot_bytes", ["lorax"])


def test_several_servers_need_the_largest_and_all_must_serve_it(made):
    rng = random.Random(0)
    found = 0
    for number in range(60):
        model_type = rng.choice(["llama", "gpt2", None])
        of, one = made(random_ranks(rng), model_type=model_type, head_params=7 * (number % 7 == 3))
        alone = {name: served_sizes(of, one, [name]) for name in SERVERS}
        for names in itertools.combinations(SERVERS, 2):
            both = served_sizes(of, one, names)
            each = [alone[name] for name in names]
            refused = [why for why in each if isinstance(why, Refused)]
            if refused:
                assert both == refused[0]
                continue
            found += 1
            assert both == {axis: max(sizes[axis] for sizes in each) for axis in SIZES}
            assert all(both[axis] >= size for axis, size in recorded_sizes(one).items())
    assert found > 100


def test_what_a_server_refuses_is_on_no_axis_and_is_counted(made):
    records, wide = [], 600
    for key, ranks in {"a": UNEQUAL, "b": {"*.q_proj": wide, "*.v_proj": wide}, "c": EQUAL}.items():
        records.append(made(ranks, key)[0])
    both = Objectives("accuracy", True, "adapter_params", ("vllm", "peft"))
    assert [point.key for point in points(records, both)] == ["a", "c"]
    assert [point.key for point in points(records, both.with_servers(()))] == ["a", "b", "c"]
    refused = refusals([(of, one) for of in records for one in of.candidates], both.serve_on)
    why = "its largest slot holds rank 512, and the adapter has 600"
    assert refused == {"vllm": {why: 1}}
    with pytest.raises(ObjectiveError, match=rf"b@10 is served right in no form by vLLM: {why}"):
        objective_on(records[1], records[1].candidates[0], "adapter_params", ["vllm"])
    with pytest.raises(ObjectiveError, match="'served_slot' of b@10 has no value: no slot holds it"):
        objective_on(records[1], records[1].candidates[0], "served_slot", ["peft"])


def test_an_adapter_of_no_rank_needs_no_server(made):
    of, one = made({"*.q_proj": 0}, head_params=0)
    assert served_sizes(of, one, ["lorax"]) == recorded_sizes(one)
    assert refusals([(of, one)], ["lorax"]) == {}


def test_older_records_are_refused_where_a_server_needs_what_they_lack(made, record, candidate):
    one = candidate(**candidate_fields(UNEQUAL))
    sizes = served_sizes(record("old", one), one, ["sglang"])
    assert isinstance(sizes, Refused)
    assert sizes.why.startswith("SGLang: ")


def test_the_front_is_of_served_sizes(made):
    """The smaller as trained is the larger where one rank is needed."""
    spiky = made({"0.q_proj": 16, "0.v_proj": 1, "1.q_proj": 1, "1.v_proj": 1, "2.q_proj": 1, "2.v_proj": 1}, "a")[0]
    even = made({"*.q_proj": 8, "*.v_proj": 8, "*.k_proj": 8}, "b")[0]
    one = Objectives("accuracy", True, "adapter_params")
    trained = {point.key: point.size for point in points([spiky, even], one)}
    served = {point.key: point for point in points([spiky, even], one.with_servers(["sglang"]))}
    assert trained["a"] < trained["b"] == served["b"].size < served["a"].size
    assert served["a"].size_on("max_rank") == 16
    assert math.isfinite(served["a"].size_on("served_slot"))


def test_a_server_without_a_rule_is_named(made):
    with pytest.raises(ObjectivesError, match=r"'ollama' is no server that there is a rule for; known: peft, vllm, "):
        Objectives("accuracy", True, "adapter_params").with_servers(["vllm", "ollama"])
    assert Objectives("accuracy", True, "adapter_params").with_servers(["mlx", "vllm"]).serve_on == ("vllm", "mlx")
