"""What an adapter that is to shrink is judged by: its data and evaluation sections, of options or of a sweep file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from prunedlora.config.data_section import DataConfig
from prunedlora.config.load import load_sweep
from prunedlora.config.trial import TrialConfig
from prunedlora.metric_kinds import is_generating
from prunedlora.registry import lookup
from prunedlora.sweep.shrink_base import CLASSIFICATION
from prunedlora.sweep.shrink_original import ShrinkError
from prunedlora.tasks.continuations import with_units
from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.example import Example
from prunedlora.tasks.generated_data import GENERATED
from prunedlora.tasks.sources import load_examples
from prunedlora.trial.assets import sources_of

SWEEP_FILES = (".yaml", ".yml")
SHARE, MOST = 4, 500
"""Validation and test are each one in SHARE of the distinct prompts (groups) of the data that they are cut from, and no
more than MOST."""
GENERATED_DATA: Mapping[str, Any] = {
    "prompt": "{question}", "target": "{answer}", "seed": 0, "num_examples": 2000,
}  # fmt: skip
"""Of a reasoning_gym task, where nothing else is said."""


@dataclass(frozen=True)
class DataOptions:
    """Data and how they are judged, as the command line says it; None: not given."""

    data: str
    """A source's name, or a sweep file."""
    validation: str | None = None
    test: str | None = None
    num_validation: int | None = None
    num_test: int | None = None
    prompt: str | None = None
    target: str | None = None
    format: str | None = None
    task: str | None = None
    labels: str | None = None
    """Names with commas."""
    metric: str | None = None
    max_new_tokens: int | None = None
    max_length: int | None = None
    chat_template: str | None = None

    @property
    def is_sweep_file(self) -> bool:
        return self.data.lower().endswith(SWEEP_FILES)


def option(name: str) -> str:
    """A field as people write it."""
    return f"--{name.replace('_', '-')}"


OPTION_OF = {f"data.{name}": option(name) for name in ("chat_template", "max_length", "labels")}
"""Fields that messages about data name, and what sets them."""


@contextmanager
def told_by_options(options: DataOptions) -> Iterator[None]:
    """What is wrong with data is told with the options beside the fields that they set, unless a sweep file has these.

    Raises ShrinkError in place of DataError.
    """
    try:
        yield
    except DataError as error:
        if options.is_sweep_file:
            raise
        fields = "|".join(map(re.escape, OPTION_OF))
        said = re.sub(rf"\b({fields})\b", lambda found: f"{OPTION_OF[found[0]]} ({found[0]})", str(error))
        raise ShrinkError(said) from error


def taken_trial(options: DataOptions) -> TrialConfig | None:
    """The trial of a sweep file whose sections are taken; None: the options themselves say what the data are.

    Raises ShrinkError for an option that would change a section, ConfigError for a file that is no sweep's.
    """
    if not options.is_sweep_file:
        return None
    own = [each.name for each in fields(options) if each.name not in ("data", "labels")]
    if given := [option(name) for name in own if getattr(options, name) is not None]:
        raise ShrinkError(
            f"{', '.join(given)} {'has' if len(given) == 1 else 'have'} no effect beside the sweep file "
            f"{options.data!r}, whose data and evaluation are taken: change a field by --set trial.data.… or "
            "--set trial.evaluation.…"
        )
    return load_sweep(Path(options.data)).trial


def data_section(options: DataOptions, task: str) -> dict[str, Any]:
    """The data section that the options say; validation and test that are cut have no number yet.

    Raises ShrinkError for options that do not go together.
    """
    for split in ("validation", "test"):
        number = getattr(options, f"num_{split}")
        if number is not None and getattr(options, split) is not None:
            raise ShrinkError(
                f"{option(f'num_{split}')} {number} has no effect beside {option(split)}, which is taken whole"
            )
    names = (options.data, options.validation, options.test)
    if task == CLASSIFICATION and options.prompt is None:
        raise ShrinkError(
            f"--data {options.data}: classes are read by templates: give --prompt and --target, as '{{text}}' and "
            "'{label}'"
        )
    train, validation, test = (None if name is None else _source(options, name) for name in names)
    section = {
        "task": task,
        "train": train,
        "validation": validation,
        "test": test,
        "num_validation": options.num_validation,
        "num_test": options.num_test,
        "max_length": options.max_length,
        "chat_template": options.chat_template,
    }
    if task == CLASSIFICATION and (validation is None or test is None):
        section["stratify"] = True
    return {name: value for name, value in section.items() if value is not None}


def evaluation_section(options: DataOptions, task: str) -> dict[str, Any]:
    """How the options say that candidates are measured: without a metric by accuracy, or by the loss of answers.

    Raises ShrinkError for a metric that generates answers and has no limit to them, and for the limit without one.
    """
    metric = options.metric or ("accuracy" if task == CLASSIFICATION else "loss")
    generates = is_generating(lookup("task", task), metric)
    if generates and options.max_new_tokens is None:
        raise ShrinkError(f"--metric {metric} generates answers: give --max-new-tokens, their longest in tokens")
    if not generates and options.max_new_tokens is not None:
        raise ShrinkError(
            f"--max-new-tokens {options.max_new_tokens} has no effect on metric {metric!r}, which generates no answers"
        )
    return {"metric": metric} | ({"max_new_tokens": options.max_new_tokens} if generates else {})


def training_examples(data: DataConfig) -> list[Example]:
    """All examples of the sources of train, before anything is cut. Raises DataError."""
    found = [example for source in sources_of(data, "train") for example in load_examples(source, data.split_seed)]
    return with_units(found)


def cut_number(examples: Iterable[Example], names: str) -> int:
    """How many validation, or test, examples are cut where nobody says it.

    Raises ShrinkError where there are too few prompts (groups) for one.
    """
    units = len({example.unit if example.group is None else example.group for example in examples})
    number = min(units // SHARE, MOST)
    if number == 0:
        raise ShrinkError(
            f"--data {names}: {units} distinct prompts are too few to cut validation and test examples from (a "
            f"quarter each): give --validation and --test, or --num-validation and --num-test"
        )
    return number


def _source(options: DataOptions, name: str) -> dict[str, Any]:
    given = {field: getattr(options, field) for field in ("prompt", "target", "format")}
    told = {field: value for field, value in given.items() if value is not None}
    return {"name": name, **(GENERATED_DATA if name.startswith(GENERATED) else {}), **told}
