"""Where the examples of one split come from, and what its rows look like."""

import codecs
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from prunedlora.config.section import Options, Section
from prunedlora.tasks.example import SPELLING
from prunedlora.tasks.file_formats import Reading, split_name
from prunedlora.tasks.remote_files import address_problem, file_name, hub_file, is_remote

NO_FILES = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
"""Python's codecs between texts that no file is written in: names of hosts, literals of Python."""

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
