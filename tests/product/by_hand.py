"""What people do without this package: adapters that transformers and PEFT alone make, load and measure; and the
README's commands that shrink them."""

import csv
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

CHATS = "prunedlora shrink my_adapter --data chats.jsonl"
CLASSES = (
    'prunedlora shrink my_adapter --data reviews.csv --prompt "{text}" --target "{label}" --labels bad,good --steps 0'
)
BLIND = "prunedlora shrink my_adapter"
SHRINK_COMMANDS = (CHATS, CLASSES, BLIND)
"""As the README has them: they run in a folder with an adapter and data of these names."""


def words(command: str) -> list[str]:
    """The command as it can run here, with this environment's script."""
    return [str(Path(sys.executable).with_name("prunedlora")), *shlex.split(command)[1:]]


@contextmanager
def seeded() -> Iterator[None]:
    """Draws alike each time, and nothing is told of a head that is new or of what PEFT deprecates."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


def classifier_adapter(
    base: Path, reviews: Path, labels: Sequence[str], folder: Path, *, steps: int, batch_size: int, rate: float
) -> None:
    """Trains a LoRA of rank 4 and a head on a csv of texts and labels, and saves them with PEFT."""
    with reviews.open() as file:
        rows = list(csv.DictReader(file))
    with seeded():
        model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
        targets = ["query", "value", "dense"]
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="SEQ_CLS"))
        tokenizer: Any = AutoTokenizer.from_pretrained(base)
        optimizer = torch.optim.AdamW([each for each in adapted.parameters() if each.requires_grad], lr=rate)
        for step in range(steps):
            some = [rows[(step * batch_size + n) % len(rows)] for n in range(batch_size)]
            batch = tokenizer([row["text"] for row in some], padding=True, return_tensors="pt")
            truth = torch.tensor([labels.index(row["label"]) for row in some])
            adapted(**batch, labels=truth).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        adapted.save_pretrained(str(folder))


def classifier_accuracy(
    base: Path, adapter: Path, labels: Sequence[str], texts: Sequence[str], truth: Sequence[str]
) -> float:
    """The share of the texts that the adapter on its base, loaded by PEFT, takes for what they are."""
    with seeded():
        model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
        adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    batch: Any = AutoTokenizer.from_pretrained(base)(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = adapted(**batch).logits.argmax(-1).tolist()
    return sum(labels[index] == label for index, label in zip(found, truth, strict=True)) / len(truth)
