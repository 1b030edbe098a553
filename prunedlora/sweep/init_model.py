"""What of a base model a sweep of it goes by; without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from prunedlora.adapters.targets import adaptable
from prunedlora.config.identity import looks_local, model_location
from prunedlora.config.trial_sections import ModelConfig
from prunedlora.registry import lookup
from prunedlora.sweep.init_error import InitError
from prunedlora.tasks.task import length_limit
from prunedlora.training.causal import CAUSAL, class_problem
from prunedlora.training.model import ModelSettings, load_model_config, load_tokenizer, load_without_weights
from prunedlora.training.positions import position_limit
from prunedlora.trial.base_cache import settings_of

POOLER = "pooler"
"""The layer before the head of BERT and its kin: there, and often never trained, in models that retrieve by the mean of
all tokens."""


@dataclass(frozen=True)
class Found:
    """A model that is there: its files are read, and its layers not built."""

    section: Mapping[str, str]
    """Of the trial: its name, and a GGUF file in it."""
    settings: ModelSettings
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @property
    def writing_problem(self) -> str | None:
        """Why it cannot write; None where it can."""
        return class_problem(self.config, CAUSAL)

    @property
    def has_chat_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))


@dataclass(frozen=True)
class ModelFacts:
    section: Mapping[str, str]
    kind: str
    """Its class of transformers."""
    family: str
    """Its model_type: llama, qwen3, bert, …"""
    num_params: int
    """Numbers in all its parameters, without a head of classes."""
    num_layers: int
    """Blocks, as its config says; 0 where it does not."""
    hidden_size: int
    widths: tuple[int, ...]
    """d_in + d_out of every linear layer that can be adapted: the parameters of one component there."""
    heads: tuple[str, ...]
    """Modules that are trained whole with a classifier."""
    limit: int | None
    """Most tokens that it takes."""


def find_model(name: str) -> Found:
    """The model of this name, on the Hub, in a folder or in an installed package.

    Raises LocationError and ModelError where it is not there, with what to do at a gated one or offline; InitError for
    a folder of several GGUF files.
    """
    section = {"name": name, **_gguf(name)}
    settings = settings_of(ModelConfig.model_validate(section))
    return Found(section, settings, load_model_config(settings), load_tokenizer(settings))


def model_facts(found: Found, task: str, num_classes: int | None) -> ModelFacts:
    """Of the model as the task loads it. Raises ModelError for one that the task cannot use."""
    auto_model = lookup("task", task).auto_model
    settings: dict[str, Any] = {} if num_classes is None else {"num_labels": num_classes}
    model = load_without_weights(found.settings, auto_model, settings)
    outside = {
        name: sum(parameter.numel() for parameter in child.parameters())
        for name, child in model.named_children()
        if num_classes is not None and name != model.base_model_prefix
    }
    heads = [name for name, size in outside.items() if size]
    if num_classes is not None and hasattr(model.base_model, POOLER) and model.base_model.pooler is not None:
        heads.insert(0, POOLER)
    modules = dict(model.named_modules())
    shapes = [modules[name].weight.shape for name in adaptable(model, heads)]
    text = found.config.get_text_config()
    return ModelFacts(
        section=found.section,
        kind=type(model).__name__,
        family=found.config.model_type,
        num_params=sum(parameter.numel() for parameter in model.parameters()) - sum(outside.values()),
        num_layers=int(getattr(text, "num_hidden_layers", 0) or 0),
        hidden_size=int(text.hidden_size),
        widths=tuple(int(sum(shape)) for shape in shapes),
        heads=tuple(heads),
        limit=length_limit(found.tokenizer, None, position_limit(found.settings, auto_model)),
    )


def _gguf(name: str) -> dict[str, str]:
    """The GGUF file of a folder that holds a model in no other form."""
    if not name.startswith("package:") and not looks_local(name):
        return {}
    folder = Path(model_location(name))
    if not folder.is_dir() or (folder / "config.json").is_file():
        return {}
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if len(files) > 1:
        raise InitError(
            f"model {name!r} has {len(files)} GGUF files ({', '.join(files)}): keep the one that is meant in a folder "
            "of its own"
        )
    return {"gguf_file": files[0]} if files else {}
