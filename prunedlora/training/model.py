"""The base model and its tokenizer, loaded once per slot and never written."""

import gc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.constants import HF_HUB_OFFLINE
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from prunedlora.hub_access import access_hint
from prunedlora.missing_path import looked_for
from prunedlora.seeds import generator
from prunedlora.training.causal import CAUSAL, class_problem, reads_ahead

CPU_ATTENTION = ("eager", "sdpa")
"""Ways of attention that a CPU trains with."""


class ModelError(ValueError):
    """A base model that cannot be loaded or used as the configuration asks."""


@dataclass(frozen=True)
class ModelSettings:
    """How to load a base model; fields as in the configuration's model section, the name resolved to a location."""

    location: str
    """Hub name or local folder."""
    revision: str | None
    gguf_file: str | None
    dtype: str
    attn_implementation: str | None
    quantization: str | None
    double_quantization: bool
    config_overrides: Mapping[str, Any]
    trust_remote_code: bool

    def source_options(self) -> dict[str, Any]:
        """What every `from_pretrained` needs to find the files."""
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.revision is not None:
            options["revision"] = self.revision
        if self.gguf_file is not None:
            options["gguf_file"] = self.gguf_file
        return options


@dataclass(frozen=True)
class BaseModel:
    """A frozen base model on its device, in evaluation mode."""

    model: PreTrainedModel
    dtype: torch.dtype
    """Type of autocast; float32 means off."""
    new_parameters: frozenset[str]
    """Names of the parameters that the checkpoint lacks (a fresh classification head): drawn anew for each trial."""


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises ModelError."""
    try:
        return AutoTokenizer.from_pretrained(settings.location, **settings.source_options())
    except Exception as error:  # broken files raise whatever their reader raises, tokenizers a bare Exception
        raise ModelError(f"cannot load the tokenizer of {_told(settings, error)}") from error


def load_model_config(settings: ModelSettings) -> PretrainedConfig:
    """The model's own config with the overrides. Raises ModelError for an override of a field that it does not have, or
    of another type."""
    try:
        config = AutoConfig.from_pretrained(settings.location, **settings.source_options())
    except Exception as error:  # broken files raise whatever their reader raises, GGUF without its package ImportError
        raise ModelError(f"cannot load the config of {_told(settings, error)}") from error
    unknown = [name for name in settings.config_overrides if not hasattr(config, name)]
    if unknown:
        raise ModelError(f"model.config_overrides: {type(config).__name__} has no field {', '.join(unknown)}")
    for name, value in settings.config_overrides.items():
        try:
            setattr(config, name, value)
        except Exception as error:  # transformers checks fields by a class of its own, and by properties
            raise ModelError(f"model.config_overrides: {name} cannot be {value!r}: {_last_line(error)}") from error
    return config


def load_without_weights(
    settings: ModelSettings, auto_model: str, model_settings: Mapping[str, Any]
) -> PreTrainedModel:
    """The model's modules on the meta device, as the task asks for them. Raises ModelError as load_model_config, and
    for an architecture that the task cannot use or that its config does not describe, and a way of attention that
    there is not, or not for this model. Kernels that a GPU alone loads are not asked for; the model that is returned
    computes attention as a CPU can, since its reach is found on one."""
    asked = settings.attn_implementation
    with torch.device("meta"):
        if asked is not None and not asked.startswith("flash_attention") and "/" not in asked:
            _from_config(settings, auto_model, model_settings, asked)
        return _from_config(settings, auto_model, model_settings, _attention_on_cpu(settings))


def load_random(settings: ModelSettings, auto_model: str, model_settings: Mapping[str, Any]) -> PreTrainedModel:
    """The same on the CPU in float32, with random weights, in evaluation mode. The caller's random state is left as it
    was. Raises ModelError as load_without_weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _from_config(settings, auto_model, model_settings, _attention_on_cpu(settings))
        return model.float().eval()


def _attention_on_cpu(settings: ModelSettings) -> str | None:
    return settings.attn_implementation if settings.attn_implementation in CPU_ATTENTION else None


def _from_config(
    settings: ModelSettings, auto_model: str, model_settings: Mapping[str, Any], attention: str | None
) -> PreTrainedModel:
    model_config = _usable_config(settings, auto_model)
    if taken := sorted(model_settings.keys() & settings.config_overrides.keys()):
        raise ModelError(f"model.config_overrides sets {', '.join(taken)}, which the task sets by the data; remove it")
    _check_padding(settings, model_config, model_settings)
    for name, value in model_settings.items():
        setattr(model_config, name, value)
    options: dict[str, Any] = {"trust_remote_code": True} if settings.trust_remote_code else {}
    if attention is not None:
        options["attn_implementation"] = attention
    try:
        model: PreTrainedModel = getattr(transformers, auto_model).from_config(model_config, **options)
    except Exception as error:  # model code checks its config by whatever error it likes
        overrides = f" with model.config_overrides {dict(settings.config_overrides)}" * bool(settings.config_overrides)
        overrides += f" with model.attn_implementation {attention!r}" * (attention is not None)
        raise ModelError(
            f"model {settings.location!r} cannot be built from its config{overrides}: {type(error).__name__}: {error}"
        ) from error
    return model


def embedding_rows(model_config: PretrainedConfig) -> int | None:
    """Number of tokens that a model of this config knows; None where it reads characters, not tokens (Canine). Known
    before the model is built, which many do not outlive whose padding lies above it."""
    rows: int | None = getattr(model_config.get_text_config(), "vocab_size", None)
    return rows


def _check_padding(settings: ModelSettings, model_config: PretrainedConfig, model_settings: Mapping[str, Any]) -> None:
    padding, rows = model_settings.get("pad_token_id"), embedding_rows(model_config)
    if padding is not None and rows is not None and padding >= rows:
        raise ModelError(
            f"the tokenizer pads with token {padding}, but model {settings.location!r} has {rows} tokens (vocab_size): "
            "tokenizer and model are not of one checkpoint; take its own tokenizer, or a model whose embedding was "
            "enlarged (resize_token_embeddings)"
        )


def _told(settings: ModelSettings, error: Exception) -> str:
    """Which model, whether it is a folder (so that a misspelt one is not taken for trouble with the Hub), and why: the
    library tells of a connection that it did not try."""
    if Path(settings.location).exists():
        return f"model {settings.location!r}: {error}{access_hint(error)}"
    where = f"no folder here, so a name on the Hub; {looked_for(settings.location)}"
    why = "HF_HUB_OFFLINE is set, and this machine's cache does not have it" if HF_HUB_OFFLINE else str(error)
    return f"model {settings.location!r} ({where}): {why}{access_hint(error)}"


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def _usable_config(settings: ModelSettings, auto_model: str) -> PretrainedConfig:
    model_config = load_model_config(settings)
    if problem := class_problem(model_config, auto_model):
        raise ModelError(f"model {settings.location!r} does not fit the task: {problem}")
    return model_config


def load_base(
    settings: ModelSettings,
    auto_model: str,
    model_settings: Mapping[str, Any],
    device: torch.device,
    unquantized: Sequence[str] = (),
) -> BaseModel:
    """Loads and freezes the model with the transformers class and config settings that the task asks for.

    `unquantized`: full names of modules that keep their type where the weights of the others are quantised.

    Raises:
        ModelError: the files are not there or do not fit, a package for quantised weights or a way of attention is
            missing, or a causal model is asked for and this one is not (training/causal.py).
    """
    _usable_config(settings, auto_model)
    dtype = compute_dtype(settings.dtype, device)
    options: dict[str, Any] = {
        "dtype": dtype,
        "output_loading_info": True,
        **model_settings,
        **settings.config_overrides,
        **settings.source_options(),
    }
    if settings.attn_implementation is not None:
        options["attn_implementation"] = settings.attn_implementation
    if settings.quantization is not None:
        options["quantization_config"] = quantization_config(settings, dtype, unquantized)
    if settings.quantization is not None or (device.type == "cuda" and settings.gguf_file is None):
        # Weight by weight: a copy of the whole in the CPU's memory may not fit. GGUF is dequantised there in any case.
        options["device_map"] = {"": device}
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)  # parameters that the checkpoint lacks are drawn here, the same in every slot
            model, info = getattr(transformers, auto_model).from_pretrained(settings.location, **options)
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(f"cannot load {_told(settings, error)}") from error
    if "device_map" not in options:
        model.to(device)
    model.requires_grad_(False)
    model.eval()
    check_causal(settings, auto_model, model)
    return BaseModel(model, dtype, frozenset(info["missing_keys"]))


def check_causal(settings: ModelSettings, auto_model: str, model: PreTrainedModel) -> None:
    """Raises ModelError where a causal model is asked for and this one is not; it must be in evaluation mode."""
    if auto_model == CAUSAL and reads_ahead(model):
        raise ModelError(
            f"model {settings.location!r} ({type(model).__name__}) is not causal: its logits change with later tokens, "
            "so it would read the answer that it should learn to write; generation needs a causal language model"
        )


def quantization_config(
    settings: ModelSettings, dtype: torch.dtype, unquantized: Sequence[str] = ()
) -> BitsAndBytesConfig:
    """How bitsandbytes is to load the weights: computed in `dtype`, those of the modules `unquantized` left alone."""
    skipped = list(unquantized)
    if settings.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quantization,
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skipped,
    )


def release_memory(device: torch.device) -> None:
    """Gives back what a finished trial held: models and optimizers are cyclic and wait for the garbage collector."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 on a CPU, where bfloat16 is slower.

    Raises ModelError for `auto` on a GPU without bfloat16: float16 there, and bfloat16 on the next one, would be two
    results of one configuration.
    """
    if name == "auto":
        if device.type == "cuda" and not _has_bfloat16(device):
            raise ModelError(
                f"model.dtype 'auto' is bfloat16 on a GPU, and {torch.cuda.get_device_name(device)} has none but in "
                "software, slowly; set model.dtype: float16"
            )
        name = "bfloat16" if device.type == "cuda" else "float32"
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def _has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def draw_new_parameters(model: nn.Module, base: BaseModel, seed: int) -> None:
    """Draws the trained copies of the parameters that the checkpoint lacks: weights from N(0, initializer_range²),
    biases 0 (others, a norm's weight, as the model class starts them). The trial seeds them, so that trials differ by
    their seed alone and not by what ran before.

    Raises ModelError as check_new_parameters.
    """
    check_new_parameters(model, base.new_parameters)
    trained = _trained(model)
    std = float(getattr(base.model.config, "initializer_range", 0.02))
    for name in sorted(base.new_parameters):
        with torch.no_grad():
            parameter = trained[name]
            if parameter.dim() > 1:
                drawn = torch.empty(parameter.shape).normal_(0.0, std, generator=generator(seed, f"head:{name}"))
                parameter.copy_(drawn)
            elif name.endswith("bias"):
                parameter.zero_()


def check_new_parameters(model: nn.Module, names: Collection[str]) -> None:
    """Raises ModelError where one of `names`, parameters that the checkpoint lacks, is not trained in `model`: it would
    be random, and missing from the exported adapter."""
    untrained = sorted(set(names) - _trained(model).keys())
    if untrained:
        head = untrained[0].rpartition(".")[0]
        others = f" and {len(untrained) - 1} others that the model needs" * (len(untrained) > 1)
        raise ModelError(
            f"the checkpoint has no {untrained[0]}{others}, so it must train: add {head!r} to adapter.head_modules, or "
            "take a checkpoint that has it"
        )


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that train, by their names in the base model."""
    return {_base_name(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _base_name(name: str) -> str:
    """Name inside the base model of a parameter inside PEFT's wrappers (`….modules_to_save.<adapter>.…`)."""
    parts = name.removeprefix("base_model.model.").split(".")
    if "modules_to_save" in parts:
        at = parts.index("modules_to_save")
        del parts[at : at + 2]
    return ".".join(parts)
