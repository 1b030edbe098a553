"""Sections of a trial that every method has: model, data, adapter, optimizer, training, evaluation."""

import codecs
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from prunedlora.adapter_place import STORED, split_stored
from prunedlora.config.metric_names import is_harness
from prunedlora.config.section import Options, Progress, Section, registered
from prunedlora.metric_kinds import figure_name
from prunedlora.registry import lookup
from prunedlora.tasks.chat.option_names import option_problem
from prunedlora.tasks.example import SPELLING
from prunedlora.tasks.file_formats import Reading, split_name
from prunedlora.tasks.remote_files import address_problem, file_name, hub_file, is_remote

NO_FILES = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
"""Python's codecs between texts that no file is written in: names of hosts, literals of Python."""


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


RowFormat = Literal["messages", "sharegpt", "prompt_completion", "alpaca", "input_output", "text"]
Role = Literal["system", "developer", "user", "assistant", "tool"]


class SourceConfig(Section):
    """Where the examples of one split come from."""

    name: str = Field(min_length=1)
    """Hub dataset, csv/tsv/json/jsonl/txt file (each also as .gz and .zst) or parquet/arrow/feather file, local or at
    an address (hf://datasets/owner/name/path, also with @revision after the name; s3://, gs://, https://), local folder
    that has such a file `<split>.<ext>`, was written by save_to_disk or is laid out like a repository of the Hub, or
    `reasoning_gym:<task>`. Every line of a txt that is not blank is a row with the column text. Cells of a csv and
    numbers of json files are the text that stands there; other values are as Python prints them, truth values true and
    false."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Character between the cells of a csv or tsv file; None: a comma, a tab in a tsv."""
    encoding: str | None = None
    """Of a csv, tsv, json, jsonl or txt file: utf-16, cp1252, … by Python's names; None: UTF-8."""
    column_names: list[str] | None = Field(default=None, min_length=1)
    """Names of the columns of a csv or tsv file that has no header line; None: the first line is the header."""
    subset: str | None = None
    """Configuration name of a Hub dataset."""
    revision: str | None = None
    """Hub revision; None takes the default branch."""
    split: str | None = None
    """Split at the source; None for sources that have just one (a single file, a reasoning-gym task)."""
    options: Options = Field(default={})
    """Options of a reasoning-gym task."""
    seed: int | None = None
    """Seed of a reasoning-gym task (required there)."""
    num_examples: PositiveInt | None = None
    """How many examples: taken from a seeded shuffle, generated for reasoning-gym (required there); None takes all."""
    prompt: str | None = Field(default=None, min_length=1)
    """Template of the model's input, with column names in braces: "{question}". With `target`; None, for generation:
    rows are of a known `format`."""
    target: str | None = Field(default=None, min_length=1)
    """Template of what is to be predicted: the label column ("{label}") or the answer ("{answer}")."""
    format: RowFormat | None = None
    """What the rows of a generation source look like: messages (a list of {role, content}), sharegpt (conversations, a
    list of {from, value}), prompt_completion (two texts, or two lists of messages), alpaca (instruction, input,
    output), input_output (segments, a list of {label, text}), text. A list may be its JSON text, as in a csv.
    None: it is known by its columns, unless prompt and target are given."""
    fields: dict[str, Annotated[str, Field(min_length=1)]] = Field(default={})
    """Names that the rows use in place of their format's: {messages: dialogue, role: speaker, content: utterance}."""
    roles: dict[str, Role] = Field(default={})
    """What the rows call the roles of messages, beside the usual names: {customer: user, agent: assistant}."""
    system: str | None = Field(default=None, min_length=1)
    """System prompt of the conversations that have none of their own."""
    special_tokens: bool | None = None
    """Of text and input_output rows: whether special tokens that they spell are read as such, as texts need that a chat
    template has written already, or as characters. None: rows that spell one are refused."""
    weight: PositiveFloat = 1.0
    """How often each example comes in a pass over the training data: 2 is twice, 0.5 half of them. Of several sources
    of train."""
    score_columns: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    """Further columns that a metric of one's own reads."""
    group: str | None = Field(default=None, min_length=1)
    """Template of what examples must share to stay in one split: "{original_question}" for rephrasings of a question,
    the document, the author, the patient. For every source or for none; None: only equal
    prompts and parts of one dialogue do."""

    @property
    def is_template(self) -> bool:
        """Whether its examples are made by templates, and not of rows of a format."""
        return self.prompt is not None

    @model_validator(mode="after")
    def _templates_or_format(self) -> Self:
        if (self.prompt is None) != (self.target is None):
            raise ValueError("prompt and target go together: give both, or neither for rows of a known format")
        if self.prompt is not None and self.format is not None:
            raise ValueError(f"format {self.format!r} says what the rows are: remove prompt and target, or format")
        if self.prompt is not None and (self.fields or self.roles):
            given = "fields" if self.fields else "roles"
            raise ValueError(f"{given} has no effect beside prompt and target, which name columns; remove it")
        if self.special_tokens is not None and (self.prompt is not None or self.format not in (None, *SPELLING)):
            where = "beside prompt and target" if self.prompt is not None else f"on rows of format {self.format!r}"
            raise ValueError(f"special_tokens has no effect {where}: it is for {' and '.join(SPELLING)}; remove it")
        return self

    @model_validator(mode="after")
    def _text_files(self) -> Self:
        if self.delimiter is not None and self.delimiter in '"\r\n':
            raise ValueError(f"delimiter {self.delimiter!r} is part of the format itself; give another, as ';'")
        if self.column_names is not None and len(set(self.column_names)) < len(self.column_names):
            raise ValueError(f"column_names has a name twice: {self.column_names}")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
                known = codecs.lookup(self.encoding).name not in NO_FILES
            except (LookupError, ValueError):
                known = False
            if not known:
                raise ValueError(f"encoding {self.encoding!r} is none of text files; give utf-8, utf-16, cp1252, …")
        return self

    @model_validator(mode="after")
    def _one_file_elsewhere(self) -> Self:
        if not is_remote(self.name):
            return self
        if problem := address_problem(self.name):
            raise ValueError(problem)
        names = None if self.column_names is None else tuple(self.column_names)
        ending = split_name(Path(file_name(self.name)))[1]
        unused = [field for field in ("subset", "revision", "split") if getattr(self, field) is not None]
        if unused := unused + Reading(self.delimiter, self.encoding, names).unused(ending):
            hint = ""
            if self.revision is not None and (on_hub := hub_file(self.name)) is not None:
                hint = f" (a revision stands in the name: {on_hub.at(self.revision)})"
            raise ValueError(
                f"{', '.join(unused)} has no effect on {self.name!r}, which is one {ending} file; remove it{hint}"
            )
        return self

    @model_validator(mode="after")
    def _reasoning_gym_settings(self) -> Self:
        if self.name.startswith("reasoning_gym:"):
            if self.prompt is None:
                raise ValueError(
                    f"source {self.name!r} is generated and has no rows of a format: give prompt and target, as "
                    "'{question}' and '{answer}'"
                )
            if self.seed is None or self.num_examples is None:
                raise ValueError("a reasoning_gym source needs seed and num_examples")
            text = ("delimiter", "encoding", "column_names")
            unused = [field for field in ("subset", "revision", "split", *text) if getattr(self, field) is not None]
        else:
            unused = [field for field, unset in (("options", {}), ("seed", None)) if getattr(self, field) != unset]
        if unused:
            raise ValueError(f"{', '.join(unused)} has no effect on source {self.name!r}; remove it")
        return self


def _one_or_several(value: object) -> str:
    return "sources" if isinstance(value, list | tuple) else "source"


Sources = Annotated[
    Annotated[SourceConfig, Tag("source")] | Annotated[list[SourceConfig], Tag("sources"), Field(min_length=1)],
    Discriminator(_one_or_several),
]


class DataConfig(Section):
    task: Annotated[str, registered("task")]
    """text_classification or generation."""
    train: Sources
    """One source, or a list of them."""
    validation: Sources | None = None
    """None: cut from train, `num_validation` examples."""
    test: Sources | None = None
    """None: cut from train, `num_test` examples."""
    num_validation: PositiveInt | None = None
    """Examples cut from train for everything the search sees; only without a validation source."""
    num_test: PositiveInt | None = None
    """Examples cut from train for the final figure; only without a test source."""
    split_seed: int = 0
    """Seed of the cut and of the shuffles; not the trial's, so that all seeds are measured on the same examples."""
    stratify: bool | None = None
    """How validation and test are cut from train where there are classes. true: every class gets its share, and at
    least one example, in each split; false: at random, classes may be missing from a cut; None: at random, refused
    where that leaves a class out of a split."""
    max_length: PositiveInt | None = None
    """Longest input in tokens, prompt and answer together; None is the model's limit. Longer ones: cut and counted;
    conversations lose their oldest turns."""
    chat_template: str | None = Field(default=None, min_length=1)
    """How conversations are written out: tokenizer (its own template), the path of a jinja file, or none (plain text).
    None: tokenizer for rows that are conversations, none for all others. Given, prompts and targets of plain text are
    a user's and the assistant's turn."""
    chat_template_kwargs: Options = Field(default={})
    """What the chat template is passed besides, for example {enable_thinking: false}."""
    train_on: Literal["assistant", "last", "completion", "all"] | None = None
    """What of a conversation is trained: all turns of the assistant, the last one, all that follows the prompt of a
    prompt_completion row, or everything. None: completion for prompt_completion rows, assistant for all others."""

    def sources(self, split: str) -> list[SourceConfig]:
        """The sources of train, validation or test; none where it is cut from train."""
        given = getattr(self, split)
        return [] if given is None else given if isinstance(given, list) else [given]

    @property
    def train_names(self) -> str:
        """What is trained on, for a message."""
        return ", ".join(repr(source.name) for source in self.sources("train"))

    @property
    def all_sources(self) -> list[SourceConfig]:
        """Of all splits."""
        return [source for split in ("train", "validation", "test") for source in self.sources(split)]

    @model_validator(mode="after")
    def _one_origin_per_split(self) -> Self:
        for split in ("validation", "test"):
            source, count = getattr(self, split), getattr(self, f"num_{split}")
            if (source is None) == (count is None):
                raise ValueError(f"give exactly one of {split} (a source) and num_{split} (cut from train)")
        return self

    @model_validator(mode="after")
    def _classes_need_templates(self) -> Self:
        if not lookup("task", self.task).has_classes:
            return self
        for split in ("train", "validation", "test"):
            if rows := [source.name for source in self.sources(split) if not source.is_template]:
                raise ValueError(
                    f"task {self.task!r} needs prompt and target for data.{split} ({rows[0]!r}), as '{{text}}' and "
                    "'{label}': rows of a format have no classes"
                )
        return self

    @model_validator(mode="after")
    def _groups_everywhere(self) -> Self:
        named = [(split, source) for split in ("train", "validation", "test") for source in self.sources(split)]
        several = {split for split in ("train", "validation", "test") if len(self.sources(split)) > 1}
        shown = [f"{split} ({source.name!r})" if split in several else split for split, source in named]
        has = [source.group is not None for _, source in named]
        if any(has) and not all(has):
            given, without = (
                [name for name, one in zip(shown, has, strict=True) if one is want] for want in (True, False)
            )
            raise ValueError(
                f"group is given for {', '.join(given)} and missing for {', '.join(without)}: what may not be in two "
                "splits is told by the groups of all sources"
            )
        return self

    @model_validator(mode="after")
    def _weights_have_an_effect(self) -> Self:
        for split in ("train", "validation", "test"):
            sources = self.sources(split)
            for source in sources if split != "train" or len(sources) == 1 else []:
                if source.weight != 1.0:
                    where = f"on the only source of {split}" if split == "train" else f"on a source of {split}"
                    raise ValueError(
                        f"weight {source.weight:g} has no effect {where} ({source.name!r}): it is for one of several "
                        "sources of train; remove it"
                    )
        return self

    @model_validator(mode="after")
    def _stratify_has_an_effect(self) -> Self:
        if self.stratify is None:
            return self
        if not lookup("task", self.task).has_classes:
            raise ValueError(f"stratify has no effect on task {self.task!r}, which has no classes; remove it")
        if self.num_validation is None and self.num_test is None:
            raise ValueError("stratify has no effect without num_validation and num_test, which cut; remove it")
        return self

    @model_validator(mode="after")
    def _templates_take_the_options(self) -> Self:
        for name in self.chat_template_kwargs:
            if problem := option_problem(name):
                raise ValueError(f"{problem}; remove it")
        return self

    def _is_plain(self, source: SourceConfig) -> bool:
        return source.is_template and self.chat_template in (None, "none")

    @model_validator(mode="after")
    def _chat_settings_have_an_effect(self) -> Self:
        """As far as it is known without the data; the task checks the rest."""
        if told := [source.name for source in self.all_sources if source.system and self._is_plain(source)]:
            raise ValueError(
                f"system of source {told[0]!r} has no effect on plain text; set chat_template to tokenizer, or write "
                "it into the prompt"
            )
        reads = ("chat_template_kwargs", "train_on")
        given = [name for name in ("chat_template", *reads) if getattr(self, name)]
        if not given:
            return self
        if lookup("task", self.task).has_classes:
            unused, why = given, f"on task {self.task!r}, which reads no conversations"
        elif self.chat_template == "none":
            unused, why = [name for name in reads if name in given], "beside chat_template 'none'"
        elif all(source.format in ("input_output", "text") for source in self.all_sources):
            unused, why = given, "on rows of input_output and text, which are not written out by a chat template"
        elif self.chat_template is None and all(source.is_template for source in self.all_sources):
            unused, why = given, "on prompts and targets that are plain text; set chat_template to tokenizer, or"
        else:
            unused, why = [], ""
        if unused:
            raise ValueError(f"{', '.join(unused)} has no effect {why}{'' if why.endswith('or') else ';'} remove it")
        if self.train_on == "completion" and all(source.is_template for source in self.all_sources):
            raise ValueError("train_on 'completion' is for prompt_completion rows; give assistant, last or all")
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
    num_steps: PositiveInt | None = None
    """Optimizer steps; or give num_epochs."""
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


def _number_or_share(limit: float | None) -> float | None:
    if limit is not None and not (0 < limit < 1 or (limit >= 1 and isinstance(limit, int))):
        raise ValueError(f"{limit!r} is neither a whole number from 1 nor a share below 1")
    return limit


class HarnessConfig(Section):
    """How lm-evaluation-harness measures; its own defaults but for the batch size."""

    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Examples in the prompt; None: each task's own number."""
    limit: Annotated[int | float | None, AfterValidator(_number_or_share)] = None
    """Documents of each task: the first n, or their share below 1; None takes all."""
    batch_size: PositiveInt = 8
    """Requests per forward pass and worker; halved where memory does not suffice."""
    unsafe_code: bool = False
    """Allow tasks that run code which the model writes. Off unless asked for by name."""
    apply_chat_template: bool = False
    """Write every prompt out by the chat template, examples in it as turns of their own, as `lm_eval
    --apply_chat_template` does: by that of data.chat_template where it is a file, with data.chat_template_kwargs, else
    by the tokenizer's."""
    system_instruction: str | None = Field(default=None, min_length=1)
    """What stands before every prompt; with apply_chat_template the system's turn, or its beginning."""


class EvaluationConfig(Section):
    metric: Annotated[str, Field(min_length=1)]
    """accuracy, balanced_accuracy, macro_f1 or matthews (classification), exact_match, final_number, verifier, rouge_l
    or token_f1 (generation), loss (either); a function of your own, `path/to/metrics.py:score` (either): called as
    score(answer, example) with the generated answer, or the predicted class, and a dict of the example's prompt,
    target, score_columns and, for conversations, messages and tools; it gives a number from 0 to 1, and its figure has
    the function's name; or a figure of one of the `harness_tasks`, as harness/arc_easy/acc_norm or
    harness/gsm8k/exact_match,strict-match (generation)."""
    milestones: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(default=[])
    """Progress values at which an adapter is evaluated and kept, besides the end."""
    max_examples: PositiveInt | None = None
    """Validation examples used (the first of the split); None uses all."""
    batch_size: PositiveInt = 64
    """Examples per forward pass and worker; halved where memory does not suffice."""
    max_new_tokens: PositiveInt | None = None
    """Longest generated answer in tokens; needed by metrics that generate, refused otherwise."""
    generate: Literal["all", "may_matter"] | None = None
    """Of metrics that generate, the candidates for which answers are generated. all: every one. may_matter: those that
    may be on the front; of the others, which a candidate that is no larger on any axis of size clearly beats in loss on
    the same examples, the loss alone is measured, and the record names who beats them. The end of a training without a
    ladder and full fine-tuning are always generated for. None: may_matter with a ladder or with cuts, of which one
    training has many candidates; all elsewhere."""
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """Texts at which a generated answer ends, before the first of them, besides the model's own end: base models go on
    with another question. Only for metrics that generate."""
    harness_tasks: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """lm-evaluation-harness tasks for the adapter at the end of the training, and for the base model: names, a task's
    file (`path/to/task.yaml`), or a folder of such files. Recorded as `harness/<task>/<metric>`. Of free cuts nothing
    is measured, but for those of method svd, which are what it comes to. Where `metric` is one of their figures, they
    are measured for every candidate."""
    harness: HarnessConfig | None = None
    """How harness_tasks are measured; None: by HarnessConfig's defaults."""

    @property
    def figure(self) -> str:
        """What the metric's figures are called."""
        return figure_name(self.metric)

    @property
    def chosen_by_harness(self) -> bool:
        """Whether lm-evaluation-harness gives the quality: its documents are then what validation is made of."""
        return is_harness(self.metric)

    @property
    def task_metric(self) -> str:
        """What the task scores the validation examples by; their loss alone where the harness gives the quality."""
        return "loss" if self.chosen_by_harness else self.metric

    @model_validator(mode="after")
    def _rising_milestones(self) -> Self:
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise: {self.milestones}")
        return self

    @model_validator(mode="after")
    def _different_stop_texts(self) -> Self:
        stop = self.stop or []
        if len(set(stop)) < len(stop):
            raise ValueError(f"stop names a text twice: {stop}")
        return self

    @model_validator(mode="after")
    def _harness_has_tasks(self) -> Self:
        tasks = self.harness_tasks or []
        if self.harness is not None and not tasks:
            raise ValueError("harness has no effect without harness_tasks; remove it")
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"harness_tasks names a task twice: {', '.join(tasks)}")
        return self
