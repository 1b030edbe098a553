"""What the rules say of an adapter, by its shape alone."""

from dataclasses import replace

import pytest

from prunedlora.servers.adapter_shape import AdapterShape, Base, Kind
from prunedlora.servers.known import SERVERS, served_form, served_forms, treatments
from prunedlora.servers.treatment import Applied, NotKnown, Refused, Treatment, Verdict, verdict

OUT = {"q": 64, "k": 32, "v": 32, "o": 64, "gate": 96, "up": 96, "down": 64}
"""Of layers from 64, down from 96."""
WIDTHS = {
    f"model.layers.{number}.{'self_attn' if each in 'qkvo' else 'mlp'}.{each}_proj": (96 if each == "down" else 64, out)
    for number in range(2)
    for each, out in OUT.items()
}
Q, V = "model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.v_proj"
UNEQUAL = {Q.format(0): 16, V.format(0): 4, Q.format(1): 2}
"""v of the second block is absent."""


def shape(ranks: dict[str, int] | None = None, **fields: object) -> AdapterShape:
    made = AdapterShape(Kind.TRAINED, UNEQUAL if ranks is None else ranks, WIDTHS, model_type="llama")
    return replace(made, **fields)  # type: ignore[arg-type]


def equal(rank: int, **fields: object) -> AdapterShape:
    return shape(dict.fromkeys(WIDTHS, rank), **fields)


def treat(server: str, adapter: AdapterShape) -> Treatment:
    return SERVERS[server].treat(adapter)


def test_unequal_ranks_with_an_absent_layer_on_every_server_before_and_after() -> None:
    """Trained, uniform, GGUF, merged."""
    found = {
        name: [None if each is None else verdict(each).value for each in forms.values()]
        for name, forms in treatments(shape()).items()
    }
    assert found == {
        "peft": ["right", "right", "refused", "right"],
        "vllm": ["right", "right", "refused", "right"],
        "sglang": ["refused", "right if", "refused", "right"],
        "llama.cpp": ["wrong", "right if", "right", "right"],
        "lorax": ["refused", "right", "refused", "right"],
        "tensorrt-llm": ["wrong", "right", "refused", "right"],
        "mlx": ["refused", "refused", "refused", "right"],
    }


def test_each_server_gets_the_smallest_form_that_it_serves_right() -> None:
    forms = served_forms(shape(), SERVERS)
    kinds = {name: form.kind for name, form in forms.items() if isinstance(form, AdapterShape)}
    assert kinds == {
        "peft": Kind.TRAINED,
        "vllm": Kind.TRAINED,
        "sglang": Kind.UNIFORM,
        "llama.cpp": Kind.GGUF,
        "lorax": Kind.UNIFORM,
        "tensorrt-llm": Kind.UNIFORM,
        "mlx": Kind.MERGED,
    }
    assert served_forms(shape(base=Base.QUANTIZED), ["mlx"]) == {"mlx": Refused("takes no form that this adapter has")}


def test_a_smaller_rank_comes_out_too_strong_where_alpha_is_divided_by_it() -> None:
    factors = {Q.format(0): 1.0, V.format(0): 4.0, Q.format(1): 8.0}
    assert treat("llama.cpp", shape()) == Applied(
        factors, "llama.cpp's convert_lora_to_gguf.py has made a GGUF file of it"
    )
    both = dict.fromkeys([*WIDTHS], 16) | {V.format(1): 8}
    served = treat("tensorrt-llm", shape(both))
    assert isinstance(served, Applied)
    assert {name: factor for name, factor in served.factors.items() if factor != 1} == {V.format(1): 2.0}


@pytest.mark.parametrize(
    ("ranks", "factors"),
    [
        # Types by turns: q, k, v, o, gate, up, down; the next one is scaled by alpha over the padded rank of the last.
        ({"q": 8, "v": 8}, {"q": 1, "v": 1}),
        ({"q": 4, "v": 4}, {"q": 1, "v": 0.5}),
        ({"v": 4}, {"v": 1}),
        ({"q": 16, "v": 2, "o": 2}, {"q": 1, "v": 1, "o": 2}),
        ({"q": 200, "v": 200}, {"q": 1, "v": 200 / 208}),
    ],
)
def test_lorax_scales_by_the_padded_rank_of_the_type_before(ranks: dict[str, int], factors: dict[str, float]) -> None:
    layers = [Q.replace("q_proj", f"{kind}_proj") for kind in ranks]
    adapter = {layer.format(i): rank for layer, rank in zip(layers, ranks.values(), strict=True) for i in range(2)}
    served = treat("lorax", shape(adapter))
    assert isinstance(served, Applied)
    assert {name.rpartition(".")[2][0]: factor for name, factor in served.factors.items()} == factors


@pytest.mark.parametrize(
    ("rank", "uniform"), [(1, 8), (8, 8), (9, 16), (33, 64), (65, 96), (97, 128), (128, 128), (129, 144), (512, 512)]
)
def test_lorax_has_kernels_for_some_ranks(rank: int, uniform: int) -> None:
    assert SERVERS["lorax"].uniform_rank(rank) == uniform
    served = served_form(equal(rank), SERVERS["lorax"])
    assert isinstance(served, AdapterShape)
    assert (served.kind, served.rank) == (Kind.TRAINED if rank == uniform else Kind.UNIFORM, uniform)
    assert SERVERS["sglang"].uniform_rank(rank) == rank


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("q", "fails where a block has k_proj and not q_proj"),
        ("v", "fails where a block has q_proj and not v_proj"),
        ("gate", "fails where a block has up_proj and not gate_proj"),
        ("k", None),
        ("up", None),
        ("o", None),
        ("down", None),
    ],
)
def test_sglang_fills_some_parts_of_what_it_fuses(lacking: str, message: str | None) -> None:
    ranks = {
        name: 8
        for name in WIDTHS
        if name != f"model.layers.1.{'mlp' if lacking not in 'qkvo' else 'self_attn'}.{lacking}_proj"
    }
    served = treat("sglang", shape(ranks, widths=None))
    assert verdict(served) == (Verdict.RIGHT_IF if message is None else Verdict.REFUSED)
    assert message is None or served == Refused(message)


@pytest.mark.parametrize(
    ("server", "names", "expected"),
    [
        ("peft", ("score",), Verdict.RIGHT),
        ("vllm", ("score",), Verdict.RIGHT_IF),
        ("vllm", ("classifier",), Verdict.RIGHT_IF),
        ("vllm", ("bert.pooler", "classifier"), Verdict.REFUSED),
        ("vllm", (), Verdict.REFUSED),
        ("sglang", ("score",), Verdict.WRONG),
        ("llama.cpp", ("score",), Verdict.REFUSED),
        ("lorax", (), Verdict.WRONG),
        ("tensorrt-llm", ("score",), Verdict.REFUSED),
        ("tensorrt-llm", ("lm_head",), Verdict.NOT_KNOWN),
        ("tensorrt-llm", (), Verdict.NOT_KNOWN),
        ("mlx", ("score",), Verdict.REFUSED),
    ],
)
def test_heads_by_kind(server: str, names: tuple[str, ...], expected: Verdict) -> None:
    adapter = equal(16, head_params=7, head_names=names)
    treatment = treat(server, adapter)
    assert verdict(treatment) == expected
    if expected == Verdict.WRONG:
        assert isinstance(treatment, Applied)
        assert {name for name, factor in treatment.factors.items() if factor == 0} == set(names or ("head",))
    assert verdict(treat(server, adapter.of_kind(Kind.MERGED))) == (
        Verdict.RIGHT if server == "peft" else Verdict.NOT_KNOWN
    )


def test_a_head_needs_a_newer_vllm_beside_its_flags() -> None:
    served = treat("vllm", equal(32, head_params=7, head_names=("score",)))
    assert isinstance(served, Applied)
    assert served.needs == ("a vLLM with pull request 53555 (2026-08), which 0.32 has; --max-lora-rank 32")


@pytest.mark.parametrize(
    ("server", "rank", "needs"),
    [
        ("vllm", 16, None),
        ("vllm", 17, "--max-lora-rank 32"),
        ("vllm", 400, "--max-lora-rank 512"),
        (
            "sglang",
            4,
            "it is there at the start (--lora-paths), or --max-lora-rank is 4 or more and --lora-target-modules has "
            "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
        ),
        ("tensorrt-llm", 64, None),
        ("tensorrt-llm", 65, "max_lora_rank 65 or more"),
        ("tensorrt-llm", 4, "no CUDA graphs, whose kernels may not align at ranks below 8"),
    ],
)
def test_what_no_file_says(server: str, rank: int, needs: str | None) -> None:
    served = treat(server, equal(rank))
    assert isinstance(served, Applied)
    assert served.needs == needs


def test_a_rank_above_the_largest_slot_is_refused_by_vllm() -> None:
    assert treat("vllm", equal(513)) == Refused("its largest slot holds rank 512, and the adapter has 513")


STRANGE = (
    "lm_head", "bert.encoder.layer.0.attention.self.query", "transformer.h.0.attn.c_attn",
    "model.layers.0.mlp.experts.1.up_proj", "model.layers.0.mlp.shared_expert.up_proj",
    "model.vision_tower.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_a_proj",
)  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("server", ["vllm", "sglang", "llama.cpp", "lorax", "tensorrt-llm"])
def test_layers_that_nobody_has_looked_at_are_not_known(server: str, name: str) -> None:
    adapter = shape({name: 8, **dict.fromkeys(WIDTHS, 8)}, widths={name: (8, 8), **WIDTHS})
    assert treat(server, adapter) == NotKnown(f"nobody has looked at layers such as {name}")
    assert verdict(treat("peft", adapter)) == Verdict.RIGHT


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [("llama", Verdict.RIGHT), ("phi3", Verdict.RIGHT), ("bert", Verdict.REFUSED), (None, Verdict.NOT_KNOWN)],
)
def test_our_gguf_files_are_for_types_that_are_proven(model_type: str | None, expected: Verdict) -> None:
    adapter = shape(model_type=model_type)
    assert verdict(treat("llama.cpp", adapter.of_kind(Kind.GGUF))) == expected
    served = served_form(adapter, SERVERS["llama.cpp"])
    assert isinstance(served, AdapterShape)
    assert served.kind == (Kind.GGUF if expected == Verdict.RIGHT else Kind.UNIFORM)


@pytest.mark.parametrize(("server", "expected"), [("lorax", NotKnown), ("sglang", Applied), ("vllm", Applied)])
def test_widths_that_are_not_on_record_matter_where_blocks_are_counted(server: str, expected: type) -> None:
    assert isinstance(treat(server, equal(8, widths=None)), expected)
