"""The end of a training under a Trainer: the adapter is there, whatever comes of its comparison."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from prunedlora import PrunedLoraCallback, PruningConfig
from prunedlora.adapters import verify as verify_module
from prunedlora.adapters.layers import adapted_layers
from prunedlora.adapters.verify import check_logits, verify_reloaded
from prunedlora.integrations import saved_adapter
from prunedlora.integrations.trainer_checks import CallbackError
from prunedlora.pruning import pruner as pruner_module
from prunedlora.pruning.event import remove

PRUNING = {"target_rank": 2, "schedule": {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2}}


def bart() -> Any:
    torch.manual_seed(0)
    sizes = {f"{part}_{what}": 1 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 128}
    return BartForSequenceClassification(BartConfig(vocab_size=60, num_labels=2, **sizes, **widths))


def t5() -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return T5ForSequenceClassification(T5Config(vocab_size=60, num_labels=2, decoder_start_token_id=0, **sizes))


def llama() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return LlamaForCausalLM(LlamaConfig(vocab_size=60, **sizes))


def trainer(
    model: Any, folder: Path, *, end: int | None = None, rank: int = 2, curvature: str = "token", **arguments: Any
) -> Trainer:
    """Of texts of 100 tokens; `end`: their last token, for a classifier."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (48, 100), generator=generator)
    if end is not None:
        ids[:, -1] = end
    fields = {"max_steps": 10, "per_device_train_batch_size": 4, "learning_rate": 2e-2, "report_to": []}
    fields |= {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
    return Trainer(
        model=model,
        args=TrainingArguments(str(folder), **(fields | arguments)),
        train_dataset=[
            {"input_ids": row, "labels": row if end is None else index % 2} for index, row in enumerate(ids)
        ],
        callbacks=[PrunedLoraCallback(PruningConfig(**(PRUNING | {"target_rank": rank, "curvature": curvature})))],
    )


@pytest.mark.parametrize(("make", "targets", "end"), [(bart, ["q_proj", "v_proj"], 2), (t5, ["q", "v"], 1)])
def test_a_classifier_that_speaks_at_the_end_token_is_compared_on_whole_texts(
    make: Callable[[], Any], targets: list[str], end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[Any] = []

    def seen(model: Any, name: str, folder: Path, example: Any, *, layers: Any) -> None:
        compared.append(example["input_ids"].shape)
        verify_reloaded(model, name, folder, example, layers=layers)

    monkeypatch.setattr(saved_adapter, "verify_reloaded", seen)
    config = LoraConfig(r=4, target_modules=targets, modules_to_save=["classification_head"])
    trainer(get_peft_model(make(), config), tmp_path, end=end).train()
    assert compared == [(1, 100)]
    plain = PeftModel.from_pretrained(make(), tmp_path / "pruned_adapter")
    assert {layer.rank for layer in adapted_layers(plain, "default")} == {2}


def test_an_adapter_that_cannot_be_compared_is_not_lost(tmp_path: Path) -> None:
    model = get_peft_model(bart(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))

    def fail_in_evaluation(module: Any, *_: Any) -> None:
        if not module.training:
            raise ValueError("no examples of this kind")

    model.register_forward_pre_hook(fail_in_evaluation)
    match = r"the trained adapter lies in .*pruned_adapter, but could not be compared .*: ValueError: no examples of th"
    with pytest.raises(CallbackError, match=match):
        trainer(model, tmp_path, end=2).train()
    plain = PeftModel.from_pretrained(bart(), tmp_path / "pruned_adapter")
    for saved, trained in zip(adapted_layers(plain, "default"), adapted_layers(model, "default"), strict=True):
        assert saved.rank == 2
        assert torch.equal(saved.A, trained.A)


def test_components_that_come_back_after_the_last_step_are_noticed(tmp_path: Path) -> None:
    """By another callback that puts averages of the weights in their place, say."""

    class Revive(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            for layer in adapted_layers(kwargs["model"], "default"):
                layer.A.data += 0.1
                layer.B.data += 0.1

    disturbed = trainer(get_peft_model(llama(), LoraConfig(r=8, target_modules=["q_proj"])), tmp_path)
    disturbed.add_callback(Revive())
    disturbed.callback_handler.callbacks.insert(0, disturbed.callback_handler.callbacks.pop())
    match = r"is not the adapter that was trained: layer .* had 8 components that were not zero .*, and has 2 now"
    with pytest.raises(CallbackError, match=match):
        disturbed.train()
    assert (tmp_path / "pruned_adapter").exists()


@pytest.mark.parametrize("bf16", [False, True])
def test_the_saved_adapter_is_compared_as_the_model_computes(
    bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides at the small rank, so the same bits on one CPU; where kernels differ, by the tolerance of what
    computes, which the parameters of a float32 model under autocast do not tell."""
    found: list[tuple[bool, float]] = []

    def seen(expected: Any, other: Any, *, low_precision: bool, what: str) -> Any:
        difference = check_logits(expected, other, low_precision=low_precision, what=what)
        found.append((low_precision, difference.rms))
        return difference

    monkeypatch.setattr(verify_module, "check_logits", seen)
    model = get_peft_model(llama(), LoraConfig(r=64, target_modules=["q_proj", "k_proj"]))
    trainer(model, tmp_path, rank=5, bf16=bf16).train()
    assert found == [(bf16, 0.0)]


@pytest.mark.parametrize(
    "allow",
    [
        lambda: torch.set_float32_matmul_precision("high"),
        pytest.param(
            lambda: setattr(torch.backends, "fp32_precision", "tf32"),  # as transformers does for tf32=True
            marks=pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9"),
        ),
    ],
    ids=["by name", "by backend"],
)
@pytest.mark.parametrize("curvature", ["token", "batch"])
def test_no_tf32_but_in_the_model_s_own_passes(
    curvature: str,
    allow: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    float32_products: Callable[[], bool],
) -> None:
    """`float32_products` says what a product would be at the moment of each."""
    seen: dict[str, set[bool]] = {}

    def look(what: str, function: Any) -> Any:
        def looking(*inputs: Any, **named: Any) -> Any:
            seen.setdefault(what, set()).add(float32_products())
            return function(*inputs, **named)

        return looking

    monkeypatch.setattr(torch.Tensor, "addmm_", look("sum over tokens", torch.Tensor.addmm_))
    monkeypatch.setattr(torch, "_foreach_lerp_", look("observation", torch._foreach_lerp_))
    monkeypatch.setattr(pruner_module, "remove", look("event", remove))
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]))
    model.register_forward_pre_hook(
        lambda module, _: seen.setdefault("training" if module.training else "verification", set()).add(
            float32_products()
        )
    )
    watched = trainer(model, tmp_path, curvature=curvature, max_grad_norm=0.0)
    allow()
    watched.train()
    full = {"observation": {True}, "event": {True}, "verification": {True}, "training": {False}}
    assert seen == full | ({"sum over tokens": {True}} if curvature == "token" else {})
    assert not float32_products()
