"""What is counted as a target, and what is kept as an example."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from prunedlora.integrations.training_inputs import TrainingInputs

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
T5_SIZES = {
    "vocab_size": 60,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 1,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
MODELS = {
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**SIZES)), "q_proj"),
    "t5": (lambda: T5ForConditionalGeneration(T5Config(**T5_SIZES)), "q"),
    "bert": (lambda: BertForSequenceClassification(BertConfig(**SIZES)), "query"),
}
ROWS = torch.tensor([[3, 4, 5, -100], [3, -100, 5, 6]])


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("llama", {"labels": ROWS}, 4),
        ("llama", {"labels": ROWS, "shift_labels": ROWS.roll(-1, 1).index_fill(1, torch.tensor([2, 3]), -100)}, 3),
        ("t5", {"labels": ROWS}, 6),
        ("bert", {"labels": torch.tensor([0, 1])}, 2),
    ],
)
def test_targets_are_counted_as_the_trainer_counts_them(
    kind: str, given: dict[str, Any], expected: int, tmp_path: Any
) -> None:
    make, target = MODELS[kind]
    model = get_peft_model(make(), LoraConfig(r=4, target_modules=[target])).train()
    if kind != "bert":  # a classifier's loss is a mean that the Trainer leaves alone
        trainer = Trainer(model=model, args=TrainingArguments(str(tmp_path), use_cpu=True, report_to=[]))
        assert int(trainer._get_num_items_in_batch([given], torch.device("cpu"))) == expected
    inputs = TrainingInputs(model)
    for _ in range(2):
        model(input_ids=torch.ones(2, 4, dtype=torch.int64), **given)
    assert inputs.take_num_targets() == 2 * expected
    assert inputs.take_num_targets() == 0
    inputs.close()


@pytest.mark.parametrize(("kind", "length"), [("llama", 64), ("bert", 99)])
def test_an_example_is_cut_where_the_model_speaks_at_every_token_alone(kind: str, length: int) -> None:
    make, target = MODELS[kind]
    model = get_peft_model(make(), LoraConfig(r=4, target_modules=[target])).train()
    inputs = TrainingInputs(model)
    ids = torch.arange(200).view(2, 100) % 60
    mask = torch.ones_like(ids)
    mask[0, 0] = 0
    model(input_ids=ids, attention_mask=mask)
    assert inputs.example is not None
    assert torch.equal(inputs.example["input_ids"], ids[:1, 1 : 1 + length])
    inputs.close()
