"""What every registered task must hold to."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerBase

from prunedlora.registry import lookup, names
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.outcomes import figures, interleave
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import INPUTS, Task, length_limit, padding_token

PAIRS = [(f"{'4 + ' * (i % 5)}{i} =", str(i % 3)) for i in range(11)]

Setup = tuple[Task, torch.nn.Module, Splits]


@pytest.fixture(params=names("task"))
def setup(
    request: pytest.FixtureRequest,
    byte_tokenizer: PreTrainedTokenizerBase,
    llama_config: LlamaConfig,
    make_splits: Callable[..., Splits],
) -> Setup:
    """The task with its first metric and a random decoder with dropout."""
    cls = lookup("task", request.param)
    splits = make_splits(PAIRS)
    generates = cls.metrics[0] in cls.generating_metrics
    task = cls.from_splits(splits, byte_tokenizer, metric=cls.metrics[0], max_new_tokens=5 if generates else None)
    llama_config.attention_dropout = 0.2
    for name, value in task.model_settings.items():
        setattr(llama_config, name, value)
    models: dict[str, Any] = {
        "AutoModelForCausalLM": LlamaForCausalLM,
        "AutoModelForSequenceClassification": LlamaForSequenceClassification,
    }
    torch.manual_seed(0)
    model = models[task.auto_model](llama_config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return task, model, splits


def test_outcomes_do_not_depend_on_the_batch_size_or_the_order(setup: Setup) -> None:
    task, model, splits = setup
    features = task.encode(splits.train)
    alone = task.evaluate(model, features, 1, "cpu")
    assert alone.num_targets == [len(feature.target_ids) if task.labels is None else 1 for feature in features]
    for batch_size in (3, 11):
        together = task.evaluate(model, features, batch_size, "cpu")
        assert together.loss_sums == pytest.approx(alone.loss_sums, abs=1e-5)
        assert together.num_targets == alone.num_targets
        assert together.scores == alone.scores
    backwards = task.evaluate(model, features[::-1], 3, "cpu")
    assert backwards.loss_sums == pytest.approx(alone.loss_sums[::-1], abs=1e-5)
    shared = interleave([task.evaluate(model, features[k::2], 3, "cpu") for k in range(2)])
    assert shared.loss_sums == pytest.approx(alone.loss_sums, abs=1e-5)
    assert set(figures(shared)) >= {"loss"}


def test_losses_of_any_micro_batches_add_up_to_those_of_the_evaluation(setup: Setup) -> None:
    task, model, splits = setup
    features = task.encode(splits.train)
    outcomes = task.evaluate(model, features, 4, "cpu")
    model.eval()
    for size in (2, 5, 11):
        parts = [task.loss(model, task.collate(features[i : i + size])) for i in range(0, 11, size)]
        assert sum(float(part.detach()) for part, _ in parts) == pytest.approx(sum(outcomes.loss_sums), abs=1e-4)
        assert sum(count for _, count in parts) == sum(outcomes.num_targets)
        assert all(part.dtype == torch.float32 and part.requires_grad for part, _ in parts)


def test_padding_gets_no_gradient(setup: Setup) -> None:
    task, model, splits = setup
    batch = task.collate(task.encode(splits.train))
    embedded: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if output.requires_grad:  # not when the model is looked at, before its first loss
            output.retain_grad()
            embedded.append(output)

    model.get_input_embeddings().register_forward_hook(keep)  # type: ignore[operator]
    task.loss(model, batch)[0].backward()
    padding = batch["attention_mask"] == 0
    assert padding.any()
    gradient = embedded[0].grad
    assert gradient is not None
    assert (gradient[padding] == 0).all()
    assert (gradient[~padding] != 0).any()


def test_evaluation_leaves_the_model_as_it_was_and_draws_nothing(setup: Setup) -> None:
    task, model, splits = setup
    model.train()
    features = task.encode(splits.train)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    first = task.evaluate(model, features, 4, "cpu")
    assert task.evaluate(model, features, 4, "cpu") == first
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    task.loss(model, task.collate(features))[0].backward()


def test_batches_are_int64_on_the_cpu(setup: Setup) -> None:
    task, _, splits = setup
    batch = task.collate(task.encode(splits.train))
    assert set(batch) == {*INPUTS, "labels"} | ({"positions"} if isinstance(task, Generation) else set())
    assert all(tensor.dtype == torch.int64 and tensor.device.type == "cpu" for tensor in batch.values())
    assert task.encode([]) == []


@pytest.mark.parametrize("name", names("task"))
def test_metrics_and_settings_that_do_not_fit(
    name: str, byte_tokenizer: PreTrainedTokenizerBase, make_splits: Callable[..., Splits]
) -> None:
    cls, splits = lookup("task", name), make_splits(PAIRS)
    assert set(cls.generating_metrics) < set(cls.metrics)
    assert "loss" in cls.metrics
    with pytest.raises(DataError, match=f"{name} has no metric 'bleu'; known: .*loss"):
        cls.from_splits(splits, byte_tokenizer, metric="bleu")
    with pytest.raises(DataError, match="max_new_tokens"):
        cls.from_splits(splits, byte_tokenizer, metric="loss", max_new_tokens=5)
    with pytest.raises(DataError, match="max_length 300 is above the model's limit of 256 tokens"):
        cls.from_splits(splits, byte_tokenizer, metric="loss", max_length=300, model_limit=256)


def test_length_limit(minilm_tokenizer: PreTrainedTokenizerBase, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    assert length_limit(minilm_tokenizer, None, None) == 512
    assert length_limit(minilm_tokenizer, None, 256) == 256
    assert length_limit(minilm_tokenizer, 64, 256) == 64
    assert length_limit(byte_tokenizer, None, None) is None
    assert length_limit(byte_tokenizer, 64, None) == 64
    with pytest.raises(DataError, match="max_length 513 is above the model's limit of 512 tokens"):
        length_limit(minilm_tokenizer, 513, None)


def test_padding_token(minilm_tokenizer: PreTrainedTokenizerBase, byte_tokenizer: PreTrainedTokenizerBase) -> None:
    assert padding_token(minilm_tokenizer) == minilm_tokenizer.pad_token_id
    assert padding_token(byte_tokenizer) == byte_tokenizer.eos_token_id
    bare = type(byte_tokenizer)(tokenizer_object=byte_tokenizer.backend_tokenizer)  # type: ignore[call-arg,attr-defined]
    with pytest.raises(DataError, match="has neither a padding nor an end-of-text token"):
        padding_token(bare)
