"""Models and data that are not there, or do not fit, are found before anything starts."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import MixtralConfig

from prunedlora.adapters.targets import TargetError
from prunedlora.config.fields import with_values
from prunedlora.config.load import load_sweep, parse_sweep
from prunedlora.sweep import setting_checks
from prunedlora.sweep.preflight import preflight
from prunedlora.sweep.setting_checks import PreflightError
from prunedlora.tasks import tokenised
from tests.families import gemma3, mixtral, put_in_place
from tests.tiny import decoder_tree, sweep_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tiny")
    return sweep_tree(folder, folder / "store")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trial.model.name", "./no/model", "'./no/model' does not exist"),
        ("trial.data.train.name", "./no/data.csv", "no/data.csv"),
        ("trial.data.train.prompt", "{question}", "question"),
        ("trial.data.train.target", "{answer}", "answer"),
        ("trial.data.num_validation", 1000, "1000"),
        ("trial.data.max_length", 1000, "max_length 1000 is above the model's limit of 64 tokens"),
        ("trial.adapter.target_modules", ["q_proj"], "q_proj"),
        ("trial.adapter.head_modules", ["score"], "score"),
        ("trial.model.config_overrides", {"hiden": 1}, "BertConfig has no field hiden"),
        ("resources.num_workers", 9, "training.batch_size 8 is below resources.num_workers 9"),
        ("trial.data.num_test", 1, "the number of test examples 1 is below resources.num_workers 2"),
        ("trial.evaluation.max_examples", 21, "evaluation.max_examples 21 is above the 20 validation examples"),
        ("trial.adapter.head_modules", ["pooler"], "add 'classifier' to adapter.head_modules"),
        (
            "trial.cuts",
            {"sizes": {"kept": [0.5, 0.001]}, "min_rank": 1},
            "cuts by allocation 'global_per_parameter': kept 0.001 is below what min_rank 1 keeps; take at least kept",
        ),
        (
            "trial.cuts",
            {"sizes": {"parameters": [900000]}, "allocations": ["uniform"]},
            "cuts by allocation 'uniform': parameters 900000 removes nothing: the adapter has",
        ),
        (
            "trial.cuts",
            {"sizes": {"kept": [0.6, 0.5]}},
            "cuts by allocation 'global_per_parameter': kept 0.6 takes nothing of what pruning leaves: target_sparsity "
            "0.5; take smaller cuts.sizes",
        ),
        (
            "trial.cuts",
            {"sizes": {"kept": [0.4]}, "screen_examples": 1},
            "cuts.screen_examples 1 is below resources.num_workers 2: each needs an example",
        ),
        ("serve_on", ["peft", "llama.cpp"], "serve_on 'llama.cpp': llama.cpp (Ollama, LM Studio) takes no head; so it"),
        ("stopping", {"examples": 1}, "stopping.examples 1 is below resources.num_workers 2: each needs an example"),
        ("stopping", {"looks": [0.01]}, "stopping.looks 0.01 of 12 steps is no step on the way; take shares that are"),
        ("stopping", {"looks": [0.5, 0.98]}, "stopping.looks 0.98 of 12 steps is no step on the way"),
        ("stopping", {"examples": 21}, "stopping.examples 21 is above the 20 validation examples that candidates"),
    ],
)
def test_bad_input(tree: dict[str, Any], path: str, value: Any, message: str) -> None:
    values = {"resources.num_workers": 2, "trial.data.stratify": False, path: value}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is read below
        preflight(parse_sweep(with_values(tree, values), "test"))
    assert message in str(caught.value)
    assert type(caught.value).__module__.startswith("prunedlora.")


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is there")
def test_four_bits_without_bitsandbytes(tree: dict[str, Any]) -> None:
    values = {"trial.model.quantization": "nf4", "resources.gpus_per_worker": 1}
    with pytest.raises(PreflightError, match=r"'nf4' needs the package bitsandbytes: pip install 'prunedlora\[cuda\]'"):
        preflight(parse_sweep(with_values(tree, values), "test"))


def test_slot_bytes_of_stacked_experts_are_no_objective(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    experts = MixtralConfig(vocab_size=200, num_key_value_heads=2, num_local_experts=4, pad_token_id=None, **shape)
    put_in_place(tmp_path / "decoder", experts)
    preflight(parse_sweep(tree, "test"))
    tree["objectives"] = {"loss": "minimize", "served_slot_bytes": "minimize"}
    with pytest.raises(PreflightError, match="'served_slot_bytes' is not known for MixtralForCausalLM"):
        preflight(parse_sweep(tree, "test"))


@pytest.mark.parametrize(
    ("family", "targets", "message"),
    [
        (
            gemma3,
            ["q_proj", "fc1"],
            r"target module 'fc1' gets no gradient: the task does not reach model\.vision_tower",
        ),
        (
            mixtral,
            ["q_proj", "gate_up_proj"],
            r"'gate_up_proj' matches nothing .*; experts stacked in one tensor are not",
        ),
    ],
)
def test_targets_that_cannot_train(tmp_path: Path, family: Any, targets: list[str], message: str) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    put_in_place(tmp_path / "decoder", family(vocab_size=208))
    with pytest.raises(TargetError, match=message):
        preflight(parse_sweep(with_values(tree, {"trial.adapter.target_modules": targets}), "test"))


def test_what_part_of_each_model_is_adapted(tmp_path: Path) -> None:
    tree = decoder_tree(tmp_path, tmp_path / "store")
    (plain,) = preflight(parse_sweep(tree, "test")).shares
    assert (plain.num_layers, plain.num_linear, plain.unreached, plain.stacked) == (14, 14, {}, {})
    put_in_place(tmp_path / "decoder", gemma3(vocab_size=208))
    space = {"adapter.target_modules": {"choice": ["all-linear", ["q_proj"]]}}
    shares = preflight(parse_sweep({**tree, "space": space}, "test")).shares
    assert [(share.num_layers, share.num_linear) for share in shares] == [(14, 29), (2, 29)]


def test_empty_dataset(tree: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("text,label\n")
    with pytest.raises(ValueError, match="empty"):
        preflight(parse_sweep(with_values(tree, {"trial.data.train.name": str(path)}), "test"))


def test_label_unseen_in_training(tree: dict[str, Any], tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(60)))
    test.write_text("text,label\nx,c\n")
    source = {"name": str(test), "prompt": "{text}", "target": "{label}"}
    values = {"trial.data.train.name": str(train), "trial.data.test": source, "trial.data.num_test": None}
    with pytest.raises(ValueError, match=r"test has labels that no training example has: 'c'"):
        preflight(parse_sweep(with_values(tree, values), "test"))


def test_a_training_example_that_cannot_be_tokenised(tree: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    """The template has a special token, and so has one text of the training split, far down."""
    monkeypatch.setattr(tokenised, "PART", 7)
    rows = [f"word {n},{['front', 'back'][n % 2]}" for n in range(80)]
    held_out, tested, train = (tmp_path / f"{name}.csv" for name in ("held_out", "tested", "train"))
    for file in (held_out, tested):
        file.write_text("\n".join(["text,label", *[f"{file.stem} {row}" for row in rows], ""]))
    train.write_text("\n".join(["text,label", *rows, "a [SEP] b,back", ""]))
    source = {"prompt": "{text} [SEP] x", "target": "{label}"}
    data = {
        "task": "text_classification",
        "train": source | {"name": str(train)},
        "validation": source | {"name": str(held_out), "num_examples": 20},
        "test": source | {"name": str(tested), "num_examples": 20},
    }
    with pytest.raises(ValueError, match=r"\[SEP\]"):
        preflight(parse_sweep(with_values(tree, {"trial.data": data}), "test"))


def test_what_the_space_may_choose_is_checked_too(tree: dict[str, Any]) -> None:
    space = {"adapter.target_modules": {"choice": ["all-linear", ["nothing_like_it"]]}}
    with pytest.raises(ValueError, match="nothing_like_it"):
        preflight(parse_sweep({**tree, "space": space}, "test"))


def test_the_quickstart_passes() -> None:
    preflight(load_sweep(Path("search_spaces/quickstart.yaml")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"adapter.method": "adalora", "adalora": {"target_rank": 2, "begin": 0.5, "end": 0.51}},
            "adalora: from step 6 to 6 of 12 there is no room for an allocation every 1 steps; train longer, or",
        ),
        (
            {"adapter.method": "l1ra", "l1ra": {"every": 0.01}},
            "l1ra.every 0.01 of 12 training steps is less than half a step; train longer or reallocate less often",
        ),
    ],
)
def test_a_training_too_short_for_its_method(tree: dict[str, Any], values: dict[str, Any], message: str) -> None:
    """Also where the space chooses it; the length is known only once the data are read."""
    fixed = {f"trial.{path}": value for path, value in {**values, "pruning": None}.items()}
    space = {"optimizer.learning_rate": {"log_uniform": [1e-3, 1e-2]}}
    with pytest.raises(PreflightError) as caught:
        preflight(parse_sweep({**with_values(tree, fixed), "space": space}, "test"))
    assert message in str(caught.value)
    baseline = {**tree, "baselines": [{**values, "pruning": None}]}
    with pytest.raises(PreflightError):
        preflight(parse_sweep(baseline, "test"))


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ("flash_attention_2", "'flash_attention_2' needs the package flash_attn, or kernels, on every node"),
        ("flash_attention_3", "'flash_attention_3' needs the package flash_attn_interface, or kernels, on every node"),
        ("flash_attention_9", "'flash_attention_9' is not known; known: flash_attention_2, flash_attention_3, flash_"),
    ],
)
def test_flash_attention_without_its_package(
    tree: dict[str, Any], attention: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_checks, "find_spec", lambda _: None)
    values = {"trial.model.attn_implementation": attention, "resources.gpus_per_worker": 1}
    with pytest.raises(PreflightError, match=f"model.attn_implementation {expected}"):
        preflight(parse_sweep(with_values(tree, values), "test"))
    monkeypatch.setattr(setting_checks, "find_spec", lambda name: name == "kernels" or None)
    if attention in setting_checks.FLASH_PACKAGES:
        preflight(parse_sweep(with_values(tree, values), "test"))
