"""Sections of a trial that every method has, beside data and evaluation: model, adapter, optimizer, training."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from prunedlora.adapter_place import STORED, split_stored
from prunedlora.config.section import Options, Progress, Section, registered


class ModelConfig(Section):
    name: str = Field(min_length=1)
    """Hub name, local folder, or `package:<import name>/<folder>` for a model inside an installed package."""
    revision: str | None = None
    """Hub revision (branch, tag or commit); None takes the Hub's default branch."""
    gguf_file: str | None = None
    """File inside the model folder or repository, for models stored as GGUF."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the base weights and of autocast; auto: bfloat16 on a GPU, float32 on a CPU. Adapters are float32. For
    GPUs without bfloat16 (V100, T4), where auto is refused, there is float16: its losses are scaled, and a model whose
    activations pass 65,504 cannot be trained in it. On a GPU float32 matrices are multiplied in TF32 while the model
    trains, in full precision everywhere else."""
    gradient_checkpointing: bool | None = None
    """Recompute activations in the backward pass: less memory, more time, the same result. None: only once a single
    example does not fit into memory; false: not even then."""
    attn_implementation: str | None = Field(default=None, min_length=1)
    """How attention is computed, under transformers' names: eager, sdpa, flash_attention_2 (a GPU, half precision and
    the package flash-attn), …; None: as transformers has it for the model."""
    quantization: Literal["nf4", "int8"] | None = None
    """Base weights of 4 or 8 bits through bitsandbytes (CUDA only), all but the head; None keeps the dtype."""
    double_quantization: bool = False
    """Quantise the scales of nf4 weights too: 0.4 bits a weight less."""
    config_overrides: Options = Field(default={})
    """Fields of the model's own config to change at load, for example {hidden_dropout_prob: 0.0}."""
    trust_remote_code: bool = False
    """Run model code that comes with the model files. Off unless asked for by name."""

    @model_validator(mode="after")
    def _weights_are_quantized_once(self) -> Self:
        if self.quantization is not None and self.gguf_file is not None:
            raise ValueError(
                f"quantization {self.quantization!r} cannot be combined with gguf_file {self.gguf_file!r}, whose "
                "weights are dequantized at load; remove one"
            )
        return self

    @model_validator(mode="after")
    def _double_quantization_has_an_effect(self) -> Self:
        if self.double_quantization and self.quantization != "nf4":
            raise ValueError(
                f"double_quantization has no effect on quantization {self.quantization!r}: it is for nf4; remove it"
            )
        return self

    @model_validator(mode="after")
    def _attention_fits_the_type(self) -> Self:
        if self.needs_half_precision and self.dtype == "float32":
            raise ValueError(
                f"attn_implementation {self.attn_implementation!r} computes in half precision: set dtype to bfloat16 "
                "or float16, or attn_implementation to sdpa"
            )
        return self

    @property
    def needs_half_precision(self) -> bool:
        """Whether attention is computed by FlashAttention's kernels, which are for GPUs and half precision."""
        return self.attn_implementation is not None and self.attn_implementation.startswith("flash_attention")

    @model_validator(mode="after")
    def _revision_has_an_effect(self) -> Self:
        if self.revision is not None and self.name.startswith(("package:", "/", "./", "../", "~")):
            raise ValueError(f"revision has no effect on model {self.name!r}, which is not from the Hub; remove it")
        return self


class AdapterConfig(Section):
    method: Annotated[str, registered("method")] = "prunedlora"
    """How the adapter starts and changes; `full` is no adapter method and has a section of its own."""
    start_from: str | None = Field(default=None, min_length=1)
    """A LoRA adapter that exists, to go on from, with its layers, ranks, scalings and heads: a folder of PEFT's, a name
    on the Hub, or store:STORE/KEY@NAME for a candidate of a sweep's store, as `prunedlora export` names it."""
    rank_pattern_from: str | None = Field(default=None, min_length=1)
    """An adapter, named as for start_from, whose layers and ranks a fresh adapter takes; layers of rank 0 are left
    out. The scaling of a layer goes by its own rank."""
    revision: str | None = None
    """Hub revision (branch, tag or commit) of the adapter that exists; None takes the Hub's default branch."""
    other_base: bool = False
    """Go on from an adapter that says it is of a base model of another name: a copy, say, or a quantised form."""
    convert_to_lora: PositiveInt | None = None
    """Rank at which PEFT's convert_to_lora approximates an adapter to start from that is no LoRA (LoHa, LoKr, …)."""
    initial_rank: int | None = Field(default=None, ge=1)
    """Rank of every adapted layer at the start; for a fresh adapter whose ranks no other gives."""
    alpha: PositiveFloat | None = None
    """Numerator of the scaling, which is alpha / rank at the start, or alpha / sqrt(rank) with rsLoRA; for a fresh
    adapter."""
    use_rslora: bool = False
    """Scaling by the square root of the rank; method rslora is lora with it and wants it said."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the input of A while training; each of `resources.num_workers` draws for its own part of a batch."""
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] | None = None
    """Names (or endings) of the linear modules to adapt, or all-linear: every linear layer but the head's. Where no
    adapter gives the layers: all-linear."""
    layers_to_transform: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Indices of the transformer blocks whose modules are adapted; None: all of them."""
    head_modules: list[str] = Field(default=[])
    """Modules trained whole and saved with the adapter (PEFT's modules_to_save): a classification head for example.
    Beside start_from: those that its adapter has."""

    @property
    def existing(self) -> str | None:
        """The name of an adapter that exists, whatever is taken from it."""
        return self.start_from or self.rank_pattern_from

    @model_validator(mode="after")
    def _fresh_or_existing(self) -> Self:
        """Fills in target_modules where it is unset and has an effect, in place: it must not count as set."""
        if self.start_from is not None and self.rank_pattern_from is not None:
            raise ValueError("start_from has ranks of its own: give it or rank_pattern_from")
        problems = []
        if self.start_from is not None:
            own = ("initial_rank", "alpha", "use_rslora", "target_modules", "layers_to_transform")
            problems = [f"{name} is that of the adapter in start_from; remove it" for name in own if self._has(name)]
        else:
            if self.rank_pattern_from is not None:
                taken = ("initial_rank", "target_modules", "layers_to_transform")
                problems = [f"{name} is given by rank_pattern_from; remove it" for name in taken if self._has(name)]
            elif self.initial_rank is None:
                problems.append("initial_rank is missing: a fresh adapter needs it")
            if self.alpha is None:
                problems.append("alpha is missing: a fresh adapter needs it")
            unused = [name for name in ("other_base", "convert_to_lora") if self._has(name)]
            problems += [f"{name} has no effect without start_from; remove it" for name in unused]
        if self.revision is not None:
            if self.existing is None:
                problems.append("revision has no effect without start_from or rank_pattern_from; remove it")
            elif self.existing.startswith((STORED, "/", "./", "../", "~")):
                problems.append(f"revision has no effect on {self.existing!r}, which is not from the Hub; remove it")
        if self.existing is not None and self.existing.startswith(STORED):
            split_stored(self.existing)
        if problems:
            raise ValueError("\n".join(problems))
        if self.existing is None and self.target_modules is None:
            self.__dict__["target_modules"] = "all-linear"
        return self

    def _has(self, name: str) -> bool:
        """Whether a setting is given: it must be able to stay out."""
        return getattr(self, name) not in (None, False)


class OptimizerConfig(Section):
    """AdamW with linear warm-up."""

    learning_rate: PositiveFloat
    """Peak learning rate of A and B."""
    head_learning_rate: PositiveFloat | None = None
    """Peak learning rate of the head modules; required with them, refused without."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    warmup: Progress = 0.05
    """Progress at which the learning rate reaches its peak."""
    decay: Literal["constant", "linear", "cosine"] = "linear"
    """Shape from the peak down to 0 at the end."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Clipping norm over all trained parameters; None is off."""


class TrainingConfig(Section):
    num_steps: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps; or give num_epochs. 0: nothing is trained, and the optimizer's rates say nothing; the adapter
    in adapter.start_from is evaluated as it is, and cut (cuts, or method svd)."""
    num_epochs: PositiveFloat | None = None
    """Passes over the training split; or give num_steps."""
    batch_size: PositiveInt
    """Examples per optimizer step, over all workers."""
    micro_batch_size: PositiveInt | None = None
    """Examples per forward pass and worker; None: no limit of this kind. Without either limit a worker's whole share of
    a step is one pass. Where memory does not suffice, either limit is halved until it does."""
    micro_batch_tokens: PositiveInt | None = None
    """Instead: tokens per forward pass and worker, padding included. Examples of like length go together, as many as
    fit; one that is longer goes alone."""

    @model_validator(mode="after")
    def _one_limit_of_a_pass(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_tokens is not None:
            raise ValueError(
                f"give micro_batch_size {self.micro_batch_size} or micro_batch_tokens {self.micro_batch_tokens}, "
                "not both: each says what one forward pass takes"
            )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.num_steps is None) == (self.num_epochs is None):
            raise ValueError("give exactly one of num_steps and num_epochs")
        return self
