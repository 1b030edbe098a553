"""A small pretrained model and its task, to compare methods on a CPU with many seeds.

A character model of 0.8 M parameters (Llama architecture) learns to copy, shift and pick letters of random words, in a
few minutes on two cores; the task that search_spaces/compare_small*.yaml fine-tune it for is to spell words backward.
It is no stand-in for a language model: it is for seeing within an hour or two how methods differ, with many seeds.
"""

import json
import random
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from prunedlora.tasks.batching import IGNORED

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
NUM_EXAMPLES = 20_000
SHORT = 6
"""Letters of the longest short word."""
FOUR = 4
"""Letters of the shortest words there are."""
BATCH_SIZE = 64
PEAK_RATE = 3e-3


def make(folder: Path, num_steps: int, say: Callable[[str], None]) -> None:
    """Pretrains for `num_steps`, 60 or more; the folder gets `model/` and the task (`write_task`)."""
    torch.manual_seed(0)
    chance = random.Random(0)
    tokenizer = character_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=num_steps, pct_start=0.05)
    started = time.perf_counter()
    for step in range(1, num_steps + 1):
        loss = model(**batch(tokenizer, chance)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps:
            left = (time.perf_counter() - started) / step * (num_steps - step)
            say(f"step {step} of {num_steps}, loss {loss.item():.4f}, {left:.0f} s left")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_task(folder)


def write_task(folder: Path) -> None:
    """Words to spell backward: backward.jsonl, and of those the short ones alone in backward_short.jsonl, the shortest
    in backward_four.jsonl, which take fewer steps to learn."""
    words = list(distinct_words(NUM_EXAMPLES, random.Random(1)))
    for name, longest in (("backward.jsonl", None), ("backward_short.jsonl", SHORT), ("backward_four.jsonl", FOUR)):
        with (folder / name).open("w") as file:
            for word in words:
                if longest is None or len(word) <= longest:
                    file.write(json.dumps({"question": f"rev {word}>", "answer": word[::-1]}) + "\n")


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token for every printable ASCII character."""
    tokens = [PAD, EOS, UNKNOWN, *map(chr, range(32, 127))]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN)


def batch(tokenizer: PreTrainedTokenizerFast, chance: random.Random) -> dict[str, torch.Tensor]:
    """Pretraining examples; the loss is over the answers."""
    pairs = [pretraining_example(chance) for _ in range(BATCH_SIZE)]
    encoded = tokenizer([f"{prompt} {answer}{EOS}" for prompt, answer in pairs], return_tensors="pt", padding=True)
    labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, IGNORED)
    for row, (prompt, _) in zip(labels, pairs, strict=True):
        row[: len(prompt) + 1] = IGNORED
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}


def pretraining_example(chance: random.Random) -> tuple[str, str]:
    """A prompt and its answer, of one of seven kinds."""
    word = random_word(chance)
    answers = {
        "copy": word,
        "upper": word.upper(),
        "next": "".join(chr((ord(letter) - ord("a") + 1) % 26 + ord("a")) for letter in word),
        "first": word[0],
        "last": word[-1],
        "twice": 2 * word[:6],
        "even": word[::2],
    }
    kind = chance.choice(list(answers))
    return f"{kind} {word}>", answers[kind]


def random_word(chance: random.Random) -> str:
    """Four to ten letters."""
    return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 10)))


def distinct_words(number: int, chance: random.Random) -> Iterator[str]:
    """That many random words, none of them twice."""
    seen: set[str] = set()
    while len(seen) < number:
        word = random_word(chance)
        if word not in seen:
            seen.add(word)
            yield word
