"""A trial's data: the sources of each split, how they are cut, and how conversations are written out."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from prunedlora.config.section import Options, Section, registered
from prunedlora.config.source_section import SourceConfig
from prunedlora.registry import lookup
from prunedlora.tasks.chat.option_names import option_problem


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
    labels: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)] | None = None
    """The classes in the order of the head's logits, for an adapter with a head that does not tell it (one of plain
    PEFT); the data may lack some. None: the order that adapter.start_from tells, by a labels.json or a store's record;
    where it tells none, or the head is new, sorted: as numbers where all are numbers, else as text."""
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
    def _labels_are_of_classes(self) -> Self:
        if self.labels is None:
            return self
        if not lookup("task", self.task).has_classes:
            raise ValueError(f"labels has no effect on task {self.task!r}, which has no classes; remove it")
        if twice := [label for label in self.labels if self.labels.count(label) > 1]:
            raise ValueError(f"labels names a class twice: {twice[0]!r}")
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
