"""A sweep file for a model and data that are named: found, measured, decided, checked, and written once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prunedlora.config.load import load_sweep
from prunedlora.config.sweep import SweepConfig
from prunedlora.sweep.init_columns import Reader, Recognised, recognise
from prunedlora.sweep.init_draft import draft
from prunedlora.sweep.init_error import InitError
from prunedlora.sweep.init_facts import DataFacts, data_facts, data_section
from prunedlora.sweep.init_model import Found, ModelFacts, find_model, model_facts
from prunedlora.sweep.init_sources import find_rows
from prunedlora.sweep.init_text import commented_yaml
from prunedlora.sweep.preflight import preflight
from prunedlora.sweep.shrink_base import GENERATION
from prunedlora.tasks.file_formats import Reading

MANY_TOKENS = 10**7
"""Trained in a whole sweep: from here on, what they take is worth a look before."""


@dataclass(frozen=True)
class InitOptions:
    """What the command line says; None: not given."""

    model: str
    data: str
    has_gpu: bool
    task: str | None = None
    prompt: str | None = None
    target: str | None = None
    row_format: str | None = None
    chat_template: str | None = None
    subset: str | None = None
    split: str | None = None
    validation: str | None = None
    test: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    storage: str | None = None
    output: Path | None = None


@dataclass(frozen=True)
class Written:
    path: Path
    model: ModelFacts
    data: DataFacts


def write_sweep(options: InitOptions) -> Written:
    """Writes the sweep file that suits the model and the data, which `search` accepts as it is.

    Raises InitError where the file exists or nothing suits; LocationError, ModelError, DataError and what else a
    preflight raises for a model and data that are not there or do not go together. Then there is no file.
    """
    name = f"{_slug(options.data)}-{_slug(options.model)}"
    path = options.output or Path(f"{name}.yaml")
    _check_output(path)
    rows = find_rows(
        options.data,
        subset=options.subset,
        split=options.split,
        validation=options.validation,
        test=options.test,
        reading=Reading(options.delimiter, options.encoding),
    )
    found = find_model(options.model)
    reader = Reader(found.writing_problem is None, getattr(found.tokenizer, "sep_token", None), found.has_chat_template)
    recognised = recognise(
        rows.columns,
        rows.values,
        reader,
        task=options.task,
        prompt=options.prompt,
        target=options.target,
        row_format=options.row_format,
    )
    _check_writes(found, recognised)
    section = data_section(rows, recognised, found, options.chat_template)
    data = data_facts(section, recognised, found)
    model = model_facts(found, data.task, None if data.classes is None else len(data.classes))
    made = draft(name, options.storage or f"runs/{name}", model, data, has_gpu=options.has_gpu)
    text = commented_yaml(made.tree, made.notes)
    _write(path, text)
    return Written(path, model, data)


def _check_output(path: Path) -> None:
    if path.exists():
        raise InitError(f"{path} exists, and is not written over: give another as -o")
    if not path.absolute().parent.is_dir():
        raise InitError(f"-o {path}: folder {path.absolute().parent} does not exist")


def _check_writes(found: Found, recognised: Recognised) -> None:
    if recognised.task == GENERATION and found.writing_problem is not None:
        raise InitError(
            f"the data have {recognised.words}, which are to be written, and model {found.section['name']!r} cannot: "
            f"{found.writing_problem}; take a causal language model, or say what the classes are by --prompt and "
            "--target with --task text_classification"
        )


def _write(path: Path, text: str) -> None:
    """Checks the file as a sweep is checked before it starts, and leaves none that is refused."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    try:
        preflight(load_sweep(path))
    except BaseException:
        path.unlink()
        raise


def lines(written: Written, config: SweepConfig) -> Iterator[str]:
    """What has been made of what, in a few lines."""
    yield f"Model: {written.model.kind}, {written.model.num_params:,} parameters"
    yield f"Data: {written.data.recognised.words}; {written.data.num_train:,} training examples"
    yield f"Judged by: {config.quality}"
    yield f"Written: {written.path}; next: prunedlora search {written.path} --dry-run{_plan(written, config)}"


def _plan(written: Written, config: SweepConfig) -> str:
    """That a sweep is planned before it is paid for, where it is long."""
    training, lengths = config.trial.training, written.data.lengths
    assert training.num_steps is not None, "a draft says how many"
    trainings = config.num_trials + len(config.baselines)
    tokens = trainings * training.num_steps * training.batch_size * lengths.median
    if tokens < MANY_TOKENS:
        return ""
    return f", then prunedlora plan {written.path}: about {tokens / 1e6:,.0f} million tokens are trained in all"


def _slug(name: str) -> str:
    """The part of a name that people call it by, in the letters that names of sweeps have."""
    last = re.split(r"[/:]", name.removeprefix("package:").rstrip("/"))
    words = [part for part in last if part not in ("", ".", "..", "~", "model")]
    stem = re.sub(r"\.(csv|tsv|jsonl?|txt|parquet|arrow|feather)(\.gz|\.zst)?$", "", words[-1] if words else "here")
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.") or "here"
