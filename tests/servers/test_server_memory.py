"""Bytes of an adapter as servers keep it, by hand."""

import pytest

from prunedlora.servers.adapter_shape import AdapterShape, Kind
from prunedlora.servers.known import SERVERS
from prunedlora.servers.server_memory import server_bytes

WIDTHS = {
    f"model.layers.{number}.self_attn.{each}_proj": (10, out)
    for number in range(2)
    for each, out in {"q": 10, "k": 4, "v": 4, "o": 10}.items()
}
RANKS = {
    "model.layers.0.self_attn.q_proj": 3,
    "model.layers.1.self_attn.q_proj": 2,
    "model.layers.0.self_attn.v_proj": 9,
}
ADAPTER = AdapterShape(Kind.TRAINED, RANKS, WIDTHS)
ITS_OWN = 3 * 20 + 2 * 20 + 9 * 14
QKV = 2 * (20 + 14 + 14)


@pytest.mark.parametrize(
    ("server", "numbers"),
    [
        ("peft", ITS_OWN),
        ("llama.cpp", ITS_OWN),
        ("vllm", 16 * (QKV + 2 * 20)),
        ("sglang", 9 * QKV),
        ("lorax", 2 * 8 * 20),  # v, which a block lacks, is dropped
        ("tensorrt-llm", None),
        ("mlx", None),
    ],
)
def test_bytes_of_one_adapter(server: str, numbers: int | None) -> None:
    assert server_bytes(ADAPTER, server) == (None if numbers is None else 2 * numbers)
    assert server_bytes(ADAPTER, server, number_bytes=4) == (None if numbers is None else 4 * numbers)


@pytest.mark.parametrize("server", SERVERS)
def test_without_widths_or_factors_there_are_no_bytes(server: str) -> None:
    assert server_bytes(AdapterShape(Kind.TRAINED, RANKS, None), server) is None
    assert server_bytes(ADAPTER.of_kind(Kind.MERGED), server) is None


def test_no_slot_of_vllm_is_large_enough() -> None:
    assert server_bytes(AdapterShape(Kind.TRAINED, dict.fromkeys(RANKS, 513), WIDTHS), "vllm") is None


def test_other_servers_are_unknown() -> None:
    with pytest.raises(KeyError, match="there is no rule for a server called 'tgi'"):
        server_bytes(ADAPTER, "tgi")
