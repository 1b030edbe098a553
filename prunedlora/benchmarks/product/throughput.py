"""What a training step saves: padding, logits that nobody looks at, an optimizer in one kernel. Ratios within one run.

Token positions are counted, not timed. Times are medians of variants that take turns on the same machine.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM

from prunedlora.adapters.attach import AdapterSettings, attach
from prunedlora.benchmarks.product.timing import take_turns
from prunedlora.tasks.example import Example
from prunedlora.tasks.target_losses import target_losses
from prunedlora.tasks.task import Features, Shortened
from prunedlora.training.data import BatchOrder

SPREADS = {"math": 0.45, "instructions": 0.8}
"""Standard deviation of the logarithm of made-up lengths: worked answers to school problems are about as alike as the
first, instructions as unlike as the second."""
MEDIAN_TOKENS = 200
NUM_LAYERS = 2
RANK = 16
NUM_FACTORS = 448
"""Of the optimizer: A and B of seven linear layers in each of 32 blocks."""


def throughput(
    *,
    batch_size: int,
    micro_batch_size: int,
    vocabulary: int,
    width: int,
    num_rounds: int,
    own_lengths: Sequence[int] | None,
    device: torch.device,
) -> dict[str, Any]:
    """Token positions, step time with the head, and optimizer time: without and with what saves them, and the ratio
    (times as much without). `own_lengths`: tokens of each example of a data set, beside the made-up ones."""
    lengths = {name: made_up_lengths(32 * batch_size, spread) for name, spread in SPREADS.items()}
    if own_lengths is not None:
        lengths["own"] = random.Random(0).sample(list(own_lengths), len(own_lengths))
    return {
        "token_positions": {
            name: token_positions(of_each, batch_size, micro_batch_size) for name, of_each in lengths.items()
        },
        "head": head_seconds(lengths["math"][:micro_batch_size], vocabulary, width, num_rounds, device),
        "optimizer": optimizer_seconds(width, num_rounds, device),
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "vocabulary": vocabulary,
        "width": width,
        "num_rounds": num_rounds,
        "num_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def made_up_lengths(number: int, spread: float) -> list[int]:
    """Lengths whose logarithm is normal around that of MEDIAN_TOKENS, at least 2, always the same."""
    chance = random.Random(0)
    return [max(2, round(MEDIAN_TOKENS * chance.lognormvariate(0.0, spread))) for _ in range(number)]


def token_positions(lengths: Sequence[int], batch_size: int, micro_batch_size: int) -> dict[str, float]:
    """Positions that go through the model, padding included, per token: of passes in the order of drawing, and in
    order of length. And forward passes: as many examples each, or as many tokens as the largest pass has either way.

    `lengths` in the order of drawing; what does not fill a step is left out. Raises ValueError for less than a step.
    """
    if len(lengths) < batch_size:
        raise ValueError(f"{len(lengths)} examples do not fill one step of {batch_size}")
    steps = [lengths[i : i + batch_size] for i in range(0, len(lengths) - batch_size + 1, batch_size)]
    drawn = [step[i : i + micro_batch_size] for step in steps for i in range(0, batch_size, micro_batch_size)]
    ordered = [part for step in steps for part in _passes(step, micro_batch_size, None)]
    budget = micro_batch_size * max(map(max, steps))
    by_tokens = [part for step in steps for part in _passes(step, None, budget)]
    num_tokens = sum(map(sum, steps))
    return {
        "as_drawn": _padded(drawn) / num_tokens,
        "ordered": _padded(ordered) / num_tokens,
        "ratio": _padded(drawn) / _padded(ordered),
        "passes_by_examples": len(ordered),
        "passes_by_tokens": len(by_tokens),
    }


def head_seconds(
    lengths: Sequence[int], vocabulary: int, width: int, num_rounds: int, device: torch.device
) -> dict[str, float]:
    """Forward and backward pass of a LoRA adapter on a small decoder of random weights, the second half of each
    example being targets: with logits of all tokens, and of target positions alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=NUM_LAYERS,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=max(lengths),
        )
        base = LlamaForCausalLM(config)
        ids = torch.randint(vocabulary, (len(lengths), max(lengths)))
    settings = AdapterSettings(
        initial_rank=RANK, alpha=RANK, use_rslora=False, dropout=0.0, target_modules="all-linear", head_modules=[]
    )
    model = attach(base, settings, "default", 0).to(device)
    mask = torch.tensor([[1] * n + [0] * (max(lengths) - n) for n in lengths])
    positions = torch.tensor(
        [row * max(lengths) + token for row, n in enumerate(lengths) for token in range(n // 2, n - 1)],
        dtype=torch.int64,
    )
    targets = ids.flatten()[positions + 1].to(device)
    inputs, positions = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}, positions.to(device)

    def train_with(losses: Callable[[nn.Module, Mapping[str, Tensor], Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            losses(model, inputs, positions, targets).sum().backward()
            model.zero_grad()

        return run

    medians = take_turns(
        {"whole": train_with(_losses_by_whole_head), "target_positions": train_with(target_losses)}, num_rounds
    )
    share = len(positions) / ids.numel()
    return {**medians, "ratio": medians["whole"] / medians["target_positions"], "share_of_positions": share}


def optimizer_seconds(width: int, num_rounds: int, device: torch.device) -> dict[str, float]:
    """One step of AdamW over NUM_FACTORS factors of RANK × width, as torch does it by default and fused."""
    steps = {}
    for name, fused in (("default", None), ("fused", True)):
        parameters = [nn.Parameter(torch.zeros(RANK, width, device=device)) for _ in range(NUM_FACTORS)]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        steps[name] = AdamW(parameters, fused=fused).step
    medians = take_turns(steps, num_rounds)
    return {**medians, "ratio": medians["default"] / medians["fused"]}


def _passes(step: Sequence[int], micro_batch_size: int | None, micro_batch_tokens: int | None) -> list[list[int]]:
    """Lengths of the examples of each forward pass of one step, as the training loop makes them."""
    features = [Features([0] * n, [], Shortened.NOT, Example("", "")) for n in step]
    order = BatchOrder(features, len(step), micro_batch_size, micro_batch_tokens, seed=0)
    return [[len(feature.input_ids) for feature in part] for part in order.micro_batches(0, 0, 1)]


def _padded(passes: Sequence[Sequence[int]]) -> int:
    return sum(len(part) * max(part) for part in passes)


def _losses_by_whole_head(model: nn.Module, inputs: Mapping[str, Tensor], positions: Tensor, targets: Tensor) -> Tensor:
    logits = model(**inputs, use_cache=False).logits.flatten(0, 1)
    return functional.cross_entropy(logits[positions].float(), targets, reduction="none")
