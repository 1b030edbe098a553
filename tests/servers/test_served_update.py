"""What a server's rule says is what its own steps come to, layer by layer, and both in the terms of PEFT's update."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.adapters.export import AllRanksZeroError, export
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.repack import make_uniform
from prunedlora.adapters.size import served_layers
from prunedlora.delivery.served_update import STEPS, served_update
from prunedlora.servers import vllm
from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.treatment import Applied, NotKnown, Refused, Treatment
from tests.adapters.conftest import llama, llama_classifier
from tests.adapters.test_export import train

RULES: Mapping[str, Callable[[AdapterShape], Treatment]] = {
    **{name: server.treat for name, server in SERVERS.items()},
    "vllm": vllm.newer,
    "vllm 0.16": vllm.older,
}
NUM_LAYERS = 14
ONE_TYPE = [0] * 3 + [4] + [0] * 6 + [4] + [0] * 3
CASES = {
    "equal": [8],
    "equal, of no kernel": [5],
    "equal, of no kernel when padded": [33],
    "unequal": [3, 1, 16, 2],
    "unequal, padded to one": [3, 1, 8, 2, 7],
    "types of different ranks": [16, 16, 16, 2, 2, 2, 2] * 2,
    "o_proj alone": ONE_TYPE,
    "o_proj of one block alone": ONE_TYPE[:7] + [0] * 7,
    "a block absent": [8] * 7 + [0] * 7,
    "v of one block absent": [8] * 7 + [8, 8, 0, 8, 8, 8, 8],
    "k of one block absent": [8] * 7 + [8, 0, 8, 8, 8, 8, 8],
    "v alone": [0, 0, 8, 0, 0, 0, 0] * 2,
    "up of one block absent": [8] * 7 + [8, 8, 8, 8, 8, 0, 8],
    "gate of one block absent": [8] * 7 + [8, 8, 8, 8, 0, 8, 8],
    "unequal with absent ones": [3, 1, 0, 2, 4, 0, 1, 0, 4],
}


def random_ranks(seed: int) -> list[int]:
    """Most of them few values, so that equal ranks and whole types happen."""
    rng = random.Random(seed)
    values = rng.choice([[4], [8], [16], [0, 8], [16, 0], [1, 2, 8], [0, 3, 16], list(range(20))])
    return [rng.choice(values) for _ in range(NUM_LAYERS)] if rng.random() < 0.7 else [rng.choice(values) or 1]


class Exported:
    """An adapter in a folder, what PEFT adds to the base's weights, and its shape."""

    def __init__(self, folder: Path, ranks: list[int], is_classifier: bool) -> None:
        heads = ["score"] if is_classifier else []
        settings = AdapterSettings(
            initial_rank=max(ranks), alpha=4.0, use_rslora=False, dropout=0.0, target_modules="all-linear",
            layers_to_transform=None, head_modules=heads,
        )  # fmt: skip
        model = attach((llama_classifier if is_classifier else llama)().double(), settings, "default", 0)
        train(model, ranks)
        export(model, "default", folder, "some/base")
        served = served_layers(model)
        assert served is not None
        self.folder, self.widths = folder, served.linear
        layers = [layer for layer in adapted_layers(model, "default") if layer.rank]
        self.expected: dict[str, Tensor] = {
            layer.name: layer.scaling * (layer.B @ layer.A).detach() for layer in layers
        }
        saved = {f"{name}.weight": model.get_submodule(f"{name}.modules_to_save.default").weight for name in heads}
        self.head = {name: tensor.detach() for name, tensor in saved.items()}
        self.shape = AdapterShape(
            Kind.TRAINED,
            {layer.name: layer.rank for layer in layers},
            self.widths,
            head_params=sum(tensor.numel() for tensor in self.head.values()),
            model_type="llama",
            head_names=tuple(heads),
        )

    def check(self, server: str, shape: AdapterShape) -> None:
        """Rule and steps agree on what is in the folder."""
        treatment, update = RULES[server](shape), served_update(self.folder, server, self.widths)
        match treatment:
            case Refused():
                assert isinstance(update, Refused), (server, treatment)
            case Applied(factors):
                assert not isinstance(update, Refused), (server, update)
                self.compare(server, dict(factors), update)
            case NotKnown(why):
                assert (server, "q, k or v" in why) == ("tensorrt-llm", True), why

    def compare(self, server: str, factors: dict[str, float], update: dict[str, Tensor]) -> None:
        for name, tensor in self.head.items():
            dropped = factors.pop(name.removesuffix(".weight"), 1.0) == 0.0
            assert (name in update) != dropped, (server, name)
            assert dropped or torch.equal(update[name], tensor)
        for name, tensor in self.expected.items():
            served = update.get(name, torch.zeros_like(tensor))
            torch.testing.assert_close(served, factors[name] * tensor, rtol=0, atol=1e-12, msg=f"{server}: {name}")
        added = [name for name in update if name not in self.expected | self.head and update[name].any()]
        assert added == [], (server, added)
        assert set(factors) >= set(self.expected)


def check_all(adapter: Exported, uniform: list[int]) -> None:
    for server in STEPS:
        adapter.check(server, adapter.shape)
    for rank in uniform:
        make_uniform(adapter.folder, rank, adapter.widths)
        form = adapter.shape.uniform(rank)
        assert form is not None
        for server in STEPS:
            adapter.check(server, form)


@pytest.mark.parametrize("ranks", CASES.values(), ids=list(CASES))
def test_rules_say_what_the_steps_come_to(ranks: list[int], tmp_path: Path) -> None:
    adapter = Exported(tmp_path, ranks, is_classifier=False)
    check_all(adapter, [adapter.shape.rank, 48, 64])


@pytest.mark.parametrize("case", ["equal", "unequal", "unequal with absent ones"])
def test_rules_say_what_becomes_of_a_head(case: str, tmp_path: Path) -> None:
    check_all(Exported(tmp_path, CASES[case], is_classifier=True), [16])


@pytest.mark.parametrize("seed", range(12))
def test_rules_say_what_the_steps_come_to_for_random_ranks(seed: int, tmp_path: Path) -> None:
    try:
        adapter = Exported(tmp_path, random_ranks(seed), is_classifier=False)
    except AllRanksZeroError:
        pytest.skip("nothing to serve")
    check_all(adapter, [adapter.shape.rank, SERVERS["lorax"].uniform_rank(adapter.shape.rank)])


def test_every_server_has_steps() -> None:
    assert set(STEPS) - {"vllm 0.16"} == set(SERVERS)


def test_an_alpha_of_0_in_a_gguf_file_is_a_scale_of_1(tmp_path: Path) -> None:
    adapter = Exported(tmp_path, CASES["unequal"], is_classifier=False)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 0}))
    update = served_update(tmp_path, "llama.cpp", adapter.widths)
    assert not isinstance(update, Refused)
    adapter.compare("llama.cpp", dict.fromkeys(adapter.expected, 1.0), update)


def test_refusals_carry_the_servers_words(tmp_path: Path) -> None:
    adapter = Exported(tmp_path, CASES["v alone"], is_classifier=False)
    assert served_update(tmp_path, "sglang", adapter.widths) == Refused("v_proj without q_proj")
    with pytest.raises(KeyError, match="tgi"):
        served_update(tmp_path, "tgi", adapter.widths)
