"""Sources of examples: datasets of the Hub, local files and folders, and generated reasoning-gym tasks.

Imports neither torch nor a tokenizer: an example is two texts.
"""

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from prunedlora.tasks.data_error import DataError
from prunedlora.tasks.templates import Template, parse

GENERATED = "reasoning_gym:"
BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Source:
    """Where the examples of one split come from: the fields of the configuration's data source, which explains them."""

    name: str
    prompt: str
    target: str
    subset: str | None = None
    revision: str | None = None
    split: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    num_examples: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class Example:
    """What the model reads and what it should answer."""

    prompt: str
    target: str
    verifier: Callable[[str], float] | None = field(default=None, compare=False, repr=False)
    """The source's own score of an answer, 1 for a correct one; None where the source has none."""
    group: str | None = field(default=None, compare=False, repr=False)
    """What it shares with examples that must be in the same split; None where the source has no groups."""


def load_examples(source: Source, shuffle_seed: int) -> list[Example]:
    """The examples of a source, in an order that is the same on every machine.

    Generated ones come in the generator's order. All others are shuffled by `shuffle_seed` before the first
    `num_examples` are taken: files are often sorted by label, and a part of them must still be a fair sample.

    Raises DataError: source not found or not readable, unknown split, reasoning-gym task or option, missing column,
    empty value, no examples, or fewer than `num_examples`.
    """
    templates = tuple(parse(text) for text in (source.prompt, source.target, source.group) if text is not None)
    if source.name.startswith(GENERATED):
        return _generated(source, templates)
    dataset = _load(source)
    _check_columns(source, dataset.column_names, *templates)
    wanted = dataset.num_rows if source.num_examples is None else source.num_examples
    if dataset.num_rows == 0:
        raise DataError(f"dataset {source.name!r} is empty")
    if wanted > dataset.num_rows:
        raise DataError(f"dataset {source.name!r} has {dataset.num_rows} rows, num_examples asks for {wanted}")
    chosen = sorted(range(dataset.num_rows), key=partial(shuffle_key, shuffle_seed))[:wanted]
    columns = list(dict.fromkeys(column for template in templates for column in template.columns))
    table = dataset.select(chosen).select_columns(columns)[:]
    texts = {column: _label_names(source, dataset.features[column], table[column], chosen) for column in columns}
    return [
        _example(source, templates, {column: texts[column][index] for column in columns}, row)
        for index, row in enumerate(chosen)
    ]


def shuffle_key(seed: int, item: object) -> bytes:
    """Sort key of a seeded shuffle. A hash, not a random generator: equal for all versions of Python and numpy."""
    return hashlib.sha256(f"{seed}:{item}".encode()).digest()


def local_files(source: Source) -> list[Path]:
    """The local files that `load_examples` would read, sorted; none for the Hub and for generated sources.

    For telling by their content whether two runs saw the same data. Raises DataError when the path does not exist.
    """
    path = _local_path(source.name)
    if path is None:
        return []
    if path.is_file():
        return [path]
    split_file = _split_file(source, path)
    return [split_file] if split_file else sorted(file for file in path.rglob("*") if file.is_file())


def _example(source: Source, templates: tuple[Template, ...], values: Mapping[str, Any], row: int) -> Example:
    """`templates`: of prompt and target, and of the group where there are groups."""
    try:
        prompt, target, *group = (template.fill(values) for template in templates)
        return Example(prompt, target, group=group[0] if group else None)
    except DataError as error:
        raise DataError(f"dataset {source.name!r}, row {row}: {error}") from error


def _check_columns(source: Source, columns: list[str], *templates: Template) -> None:
    missing = sorted({column for template in templates for column in template.columns} - set(columns))
    if missing:
        raise DataError(f"dataset {source.name!r} has no column {', '.join(missing)}; it has: {', '.join(columns)}")


def _label_names(source: Source, feature: Any, values: list[Any], rows: list[int]) -> list[Any]:
    """Names instead of numbers where the dataset declares class labels."""
    if not hasattr(feature, "int2str"):
        return values
    for row, value in zip(rows, values, strict=True):
        if value is None or value < 0:
            raise DataError(f"dataset {source.name!r}, row {row} has no label (a test split without labels?)")
    return list(feature.int2str(values))


def _load(source: Source) -> Any:
    path = _local_path(source.name)
    if path is None:
        return _load_with_library(source, source.name, source.subset, revision=source.revision)
    file = path if path.is_file() else _split_file(source, path)
    # A folder without `<split>.<ext>` files may be laid out like a repository of the Hub, which the library knows.
    useless = ["revision"] if file is None else ["revision", "subset"]
    useless += ["split"] if path.is_file() else []
    unused = [name for name in useless if getattr(source, name) is not None]
    if unused:
        raise DataError(f"{', '.join(unused)} has no effect on local data {source.name!r}; remove it")
    if file is None:
        return _load_with_library(source, str(path), source.subset)
    # An empty cell is an empty text, and "NA" or "null" are words: the library's default takes them for missing values.
    options = {"na_filter": False} if file.suffix == ".csv" else {}
    name, _, part = (source.split or "train").partition("[")
    settings = {"split": source.split if part else None, "data_files": {name: str(file)}, **options}
    return _load_with_library(source, BUILDERS[file.suffix], None, **settings)


def _load_with_library(source: Source, name: str, subset: str | None, **settings: Any) -> Any:
    import datasets  # a second of imports that no generated source needs

    try:
        loaded = datasets.load_dataset(name, subset, **{"split": source.split, **settings})
    except StopIteration as error:  # what its reader of JSON does without a single row
        raise DataError(f"dataset {source.name!r} is empty") from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if "corresponds to no data" in str(error):
            raise DataError(f"dataset {source.name!r} is empty") from error
        cause = error.__cause__ or error  # the library's own message often says no more than that something failed
        raise DataError(f"cannot load dataset {source.name!r}: {type(cause).__name__}: {cause}") from error
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise DataError(f"dataset {source.name!r} has several splits, name one as split: {', '.join(loaded)}")
        return next(iter(loaded.values()))
    return loaded


def _local_path(name: str) -> Path | None:
    """The local path that a source's name means, or None for a Hub name. Raises DataError when it does not exist."""
    path = Path(name).expanduser()
    if name.startswith(GENERATED):
        return None
    if path.exists():
        if path.is_file() and path.suffix not in BUILDERS:
            raise DataError(f"file {name!r} has a suffix that is not known; known: {', '.join(BUILDERS)}")
        return path
    if name.startswith(("./", "../", "/", "~")) or path.suffix in BUILDERS:
        raise DataError(f"data path {name!r} does not exist (looked for {path.absolute()})")
    return None


def _split_file(source: Source, folder: Path) -> Path | None:
    """The `<split>.<ext>` file of a folder; None when it holds no such files at all."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in BUILDERS)
    if not files:
        return None
    if source.split is None:
        if len(files) > 1:
            raise DataError(f"{source.name!r} has several files, name one as split: {', '.join(f.stem for f in files)}")
        return files[0]
    matching = [file for file in files if file.stem == source.split.split("[")[0]]
    if not matching:
        raise DataError(f"{source.name!r} has no split {source.split!r}; it has: {', '.join(f.stem for f in files)}")
    if len(matching) > 1:
        raise DataError(f"{source.name!r} has several files for one split: {', '.join(f.name for f in matching)}")
    return matching[0]


def _generated(source: Source, templates: tuple[Template, ...]) -> list[Example]:
    task = source.name.removeprefix(GENERATED)
    if source.seed is None or source.num_examples is None:
        raise DataError(f"source {source.name!r} needs seed and num_examples")
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise DataError(f"source {source.name!r} needs a package: pip install reasoning-gym") from error
    if task not in DATASETS:
        close = difflib.get_close_matches(task, DATASETS, n=5) or sorted(DATASETS)
        raise DataError(f"unknown reasoning-gym task {task!r}; did you mean: {', '.join(close)}")
    known = {option.name for option in fields(DATASETS[task][1])} - {"seed", "size"}
    unknown = sorted(set(source.options) - known)
    if unknown:
        raise DataError(
            f"reasoning-gym task {task!r} has no option {', '.join(unknown)}; its options: {', '.join(sorted(known))}"
            + " (seed and num_examples are fields of the source)"
        )
    try:
        dataset = reasoning_gym.create_dataset(task, size=source.num_examples, seed=source.seed, **source.options)
    except (AssertionError, TypeError, ValueError) as error:  # how its configurations refuse values
        raise DataError(f"reasoning-gym task {task!r} refuses options {dict(source.options)}: {error}") from error
    examples = []
    for row in range(source.num_examples):
        entry = dataset[row]
        columns = {name: value for name, value in entry.items() if name != "metadata"}
        _check_columns(source, list(columns), *templates)
        example = _example(source, templates, columns, row)
        examples.append(replace(example, verifier=partial(dataset.score_answer, entry=entry)))
    return examples
