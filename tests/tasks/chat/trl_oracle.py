"""What TRL's SFTTrainer makes of rows: its own preparation, collator and loss."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer


def trainer_of(
    rows: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    folder: Path,
    **settings: Any,
) -> SFTTrainer:
    """A trainer over these rows, which it keeps in their order."""
    config = SFTConfig(
        output_dir=str(folder), max_length=None, report_to=[], use_cpu=True, bf16=False, fp16=False,
        gradient_checkpointing=False, disable_tqdm=True, **settings,
    )  # fmt: skip
    return SFTTrainer(model, config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def batch_of(trainer: SFTTrainer) -> dict[str, torch.Tensor]:
    """All its rows, as its collator puts them together."""
    rows = [{name: row[name] for name in ("input_ids", "labels")} for row in trainer.train_dataset]
    return trainer.data_collator(rows)
