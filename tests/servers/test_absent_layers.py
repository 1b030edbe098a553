"""Which layers an adapter lacks: by type and stack, with what servers fuse."""

import pytest

from prunedlora.servers.absent_layers import absent_layers

LLAMA = {
    f"model.layers.{block}.{name}": (8, 8)
    for block in range(2)
    for name in (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.up_proj",
        "mlp.gate_proj",
    )
} | {"lm_head": (8, 50)}


@pytest.mark.parametrize(
    ("present", "absent"),
    [
        (["model.layers.0.self_attn.o_proj"], ["model.layers.1.self_attn.o_proj"]),
        (
            ["model.layers.1.self_attn.v_proj"],
            [f"model.layers.{block}.self_attn.{name}_proj" for block in range(2) for name in "qkv"][:-1],
        ),
        (
            ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"],
            [f"model.layers.{i}.mlp.gate_proj" for i in (0, 1)],
        ),
        (["lm_head"], []),
        (list(LLAMA), []),
    ],
)
def test_a_type_is_filled_in_all_blocks_with_what_is_fused(present: list[str], absent: list[str]) -> None:
    found = absent_layers(present, LLAMA)
    assert list(found) == absent
    assert all(shape == LLAMA[name] for name, shape in found.items())


def test_another_stack_with_layers_of_the_same_names_is_left_alone() -> None:
    """Gemma-3: text and vision tower both have q_proj; T5: encoder and decoder."""
    widths = {f"{tower}.layers.{block}.q_proj": (8, 8) for tower in ("text", "vision") for block in range(2)}
    assert list(absent_layers(["text.layers.1.q_proj"], widths)) == ["text.layers.0.q_proj"]


def test_experts_of_a_block_are_one_type() -> None:
    widths = {f"layers.{block}.experts.{expert}.w1": (8, 8) for block in range(2) for expert in range(2)}
    assert len(absent_layers(["layers.0.experts.1.w1"], widths)) == 3
